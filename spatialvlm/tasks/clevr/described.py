"""CLEVR's questions with their scenes in words: an official folder, rendered scenes, or merged rows.

Every scene and question is checked while it is loaded; the message names file, number and field. Descriptions
are made on access. A description is a list with positions and relations, an ordered list, or sentences. Left,
right, front and behind are the scene's own `directions` in the ground plane, as in CLEVR's questions.
`world_axes` turns a scene so that they are the world's x and y instead, which is the order of the published
descriptions (sorted by x for "from left to right"; that y stands for front to back goes with it, and is our
reading). CLEVR's camera stands at about (7.5, -6.5), so its right lies some 49 degrees from x, and about a
quarter of all pairs change sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from string import ascii_uppercase
from sys import intern
from typing import Any, NamedTuple

from PIL import Image

from spatialvlm.errors import UserError, require_at_least, shown
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.files.lazy import LazyExamples, mapped
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.clevr.official_files import Scenes, stream, text
from spatialvlm.worlds.clevr import scenes, series
from spatialvlm.worlds.clevr.facts import (
    HEIGHT,
    RELATION_EPSILON,
    VALUES,
    WIDTH,
    Scene,
    distance,
    relationships,
)
from spatialvlm.worlds.clevr.official_answers import answer_clevr, family

STYLES = ("structured", "ordered", "nlp")
WORLD = {"right": (1.0, 0.0, 0.0), "behind": (0.0, 1.0, 0.0), "above": (0.0, 0.0, 1.0)}
WORLD |= {"left": (-1.0, 0.0, 0.0), "front": (0.0, -1.0, 0.0), "below": (0.0, 0.0, -1.0)}
EMBEDDED_SIZE = 400  # questions over rendered scenes, where no limit is given
ANSWERS = frozenset(("yes", "no", *map(str, range(11)), *sum(VALUES.values(), ())))
AXES = ("camera", "world")
WORDINGS = {
    "before": "Description: {description}\nQuestion: {question}",
    "after": "Answer the question with the help of the description of the image.\n"
    "Question: {question}\nDescription: {description}",
}
RIGHT, WRONG = "the gold answer", "another one"
NOTHING = "nothing (what they ask about is not there, or not unique)"
UNKNOWN = "not known (no question of an official form)"
_GREY = (128, 128, 128)


def load(
    path: str | Path,
    split: str | None = None,
    limit: int | None = None,
    axes: str = "camera",
    images: bool = True,
    progress: bool = False,
) -> Sequence[Example]:
    """CLEVR's official questions, each with its scene in words.

    Args:
        path: `embedded`; an official folder (questions/, scenes/ and images/); or what `described_files`
            wrote: a parquet or jsonl file, a folder of those, or a hub id.
        split: of a folder with several; by default `val`, or the only one. `test` of the embedded data.
        limit: at most this many questions, the first ones; of rendered scenes `EMBEDDED_SIZE` by default.
        axes: `camera` (the scene's own directions) or `world` (`world_axes`). Merged rows have
            theirs, which must be this one.
        images: whether images must be there; without, a missing one is a blank of CLEVR's size.
        progress: shows bars while files are read.

    Returns:
        Examples with the family as task. `meta` has `descriptions` (by style); `described_answer`, what the
        question's answer is by the scene as it is described (with the `camera`'s axes the gold one), None
        where what it asks about is not there or not unique, or for a text of another form;
        `image_filename`, `split`, `question_index` and, but for merged rows, `described_scene`.

    Raises:
        UserError: nothing there, a file that is not whole, a scene or row that is not; the message names it.
    """
    if axes not in AXES:
        raise ValueError(f"axes must be camera or world, not {axes!r}")
    require_at_least(1, limit=limit)
    if path == "embedded":
        examples = _load_embedded(split or "test", limit or EMBEDDED_SIZE, axes)
    elif clevr.is_official_folder(path):
        examples = _load_folder(Path(path), split, limit, axes, images, progress)
    else:
        examples = _load_merged(path, split, limit, axes, images)
    return clevr.with_vocabulary(examples)


def prompted(examples: Sequence[Example], style: str, wording: str = "before") -> Sequence[Example]:
    """The same questions with a description in the prompt (`WORDINGS`); with style `none` as they are."""
    if style == "none":
        return examples
    if style not in STYLES or wording not in WORDINGS:
        raise ValueError(f"style {style!r} is none of {STYLES}, or wording {wording!r} of {[*WORDINGS]}")

    def with_description(example: Example) -> Example:
        told = {"description": example.meta["descriptions"][style], "question": example.question}
        return replace(example, prompt=WORDINGS[wording].format(**told))

    return mapped(examples, with_description)


def load_prompted(style: str, wording: str = "before", **arguments: Any) -> Sequence[Example]:
    """Load questions (`load`'s arguments) with a description in the prompt (`prompted`)."""
    return prompted(load(**arguments), style, wording)


def verdict(example: Example) -> str:
    """What a perfect reader of the description would say to a question: RIGHT, WRONG, NOTHING or UNKNOWN."""
    if example.task == "other":
        return UNKNOWN
    said = example.meta["described_answer"]
    return NOTHING if said is None else RIGHT if said == example.answer else WRONG


class Description(NamedTuple):
    scene: Scene  # with the directions that it is described in
    texts: dict[str, str]  # by style


def described(scene: Scene, axes: str) -> Description:
    """A scene in every style, along the camera's axes or the world's."""
    seen = world_axes(scene) if axes == "world" else scene
    seen = seen | {"relationships": relationships(seen)}
    return Description(seen, {style: describe(seen, style) for style in STYLES})


# ---- rendered scenes


def _load_embedded(split: str, limit: int, axes: str) -> Sequence[Example]:
    asked = series.clevr(split, limit)

    def make(index: int) -> Example:
        example = asked[index]
        scene = scenes.make(*example.meta["scene"])
        return _with_description(
            example,
            described(scene, axes),
            image_filename=f"{example.id}.png",
            split=split,
            question_index=index,
        )

    return LazyExamples(make, range(len(asked)), sources=(asked,))


def _with_description(example: Example, found: Description, **more: Any) -> Example:
    meta = {
        "descriptions": found.texts,
        "described_answer": answer_clevr(example.question, found.scene),
        "described_scene": found.scene,
    }
    return replace(example, meta=meta | more)


# ---- the official folder


class _Asked(NamedTuple):
    question: str
    answer: str
    image_filename: str
    question_index: int


def _load_folder(
    folder: Path, split: str | None, limit: int | None, axes: str, images: bool, progress: bool
) -> Sequence[Example]:
    files = clevr.question_files(folder, split)
    split = clevr.split_of(files[0].name) or files[0].stem
    scene_files = [file for file in sorted((folder / "scenes").glob("*.json")) if split in _splits(file)]
    if not scene_files:
        raise UserError(
            f"{folder / 'scenes'} holds no file of split '{split}'; descriptions come from scenes"
        )
    known = Scenes(scene_files, progress)
    asked: list[_Asked] = []
    seen: set[int] = set()
    for file in files:
        for where, row in stream(file, "questions", progress):
            if limit is not None and len(asked) == limit:
                break
            asked.append(_asked(row, where))
            if asked[-1].question_index in seen:
                index = asked[-1].question_index
                raise UserError(f"{where}: 'question_index' {index} was there before; remove one")
            seen.add(asked[-1].question_index)
            if asked[-1].image_filename not in known:
                raise UserError(f"{where}: no scene has its 'image_filename' {asked[-1].image_filename!r}")
            if images and not rows.is_file(image := clevr.image_file(folder, asked[-1].image_filename)):
                raise UserError(
                    f"{where}: its image {image} is not there; add it, or do without images (--blank_image)"
                )
            if images:
                rows.checked_file(image, where)

    @lru_cache(maxsize=64)  # questions of one scene stand side by side
    def description(name: str) -> Description:
        return described(known[name], axes)

    def make(index: int) -> Example:
        question, answer, name, number = asked[index]
        image = clevr.image_file(folder, name)
        example = Example(
            id=f"clevr-{split}-{number}",
            images=(image if images or rows.is_file(image) else _blank(),),
            question=question,
            answer=answer,
            task=family(question) or "other",
        )
        found = description(name)
        return _with_description(example, found, image_filename=name, split=split, question_index=number)

    return LazyExamples(make, range(len(asked)), kept=64)


def _splits(file: Path) -> tuple[str, ...]:
    return clevr.split_of(file.name) or file.stem, file.stem


def _asked(row: Any, where: str) -> _Asked:
    """A row's question, checked."""
    question, answer, name = (text(row, field, where) for field in ("question", "answer", "image_filename"))
    if answer not in ANSWERS:
        raise UserError(f"{where}: 'answer' {answer!r} is none of CLEVR's 28; correct or remove the row")
    number = rows.as_whole(rows.need(row, "question_index", where), "question_index", where)
    return _Asked(question, intern(answer), intern(name), number)  # some words, many times


@lru_cache(maxsize=1)
def _blank() -> Image.Image:
    return Image.new("RGB", (WIDTH, HEIGHT), _GREY)


# ---- merged rows


def _file_of(path: str | Path, split: str | None) -> str | Path:
    """The file of a split in a folder that merging wrote, the only one by default; another path as it is."""
    files = sorted(file for suffix in ("parquet", "jsonl") for file in Path(path).glob(f"*.{suffix}"))
    if not files:
        return path
    found = [file for file in files if split in (None, file.stem)]
    if len(found) != 1:
        there = ", ".join(file.name for file in files)
        raise UserError(f"{path} has {there}; give --split, or one of the files")
    return found[0]


def _load_merged(
    path: str | Path, split: str | None, limit: int | None, axes: str, images: bool
) -> Sequence[Example]:
    """Examples that are made when looked at, all rows checked before."""
    path = _file_of(path, split)
    table, folder = rows.read(path, split or "train"), rows.beside(path)

    def make(number: int) -> Example:
        where, row = table[number]
        if rows.need(row, "axes", where) != axes:
            change = "leave out" if axes == "world" else "give"
            raise UserError(
                f"{where} has descriptions along the axes {shown(row['axes'])}; {change} --world_axes"
            )
        asked, said = _asked(row, where), row.get("described_answer")
        if said is not None and str(said) not in ANSWERS:
            raise UserError(f"{where}: 'described_answer' {said!r} is none of CLEVR's 28; merge again")
        id, task, of = (text(row, field, where) for field in ("id", "family", "split"))
        texts = {style: text(row, f"description_{style}", where) for style in STYLES}
        image = _blank()
        if images or row.get("image") is not None:
            image = rows.as_image(rows.need(row, "image", where), where, folder)
        if not images and isinstance(image, Path) and not rows.is_file(image):
            image = _blank()
        meta = {"descriptions": texts, "described_answer": said, "image_filename": asked.image_filename}
        meta |= {"split": of, "question_index": asked.question_index}
        return Example(id, (image,), asked.question, asked.answer, task, meta=meta)

    numbers = range(len(table) if limit is None else min(limit, len(table)))
    seen: set[int] = set()
    for number in numbers:
        index = make(number).meta["question_index"]
        if index in seen:
            raise UserError(f"{path} row {number}: 'question_index' {index} was there before; remove one")
        seen.add(index)
    if not numbers:
        raise UserError(f"{path} holds no row")
    return LazyExamples(make, numbers, kept=1)  # images are not to pile up


# ---- a scene in words


def describe(scene: Scene, style: str) -> str:
    """The scene in words.

    Args:
        style: `structured` has a line an object, from left to right: its four attributes, its position along
            the camera's right and away from it (scene units, from the middle of the ground), its nearest
            neighbour, and what it is left of and in front of by CLEVR's own rule (more than 0.2 apart).
            `ordered` names all objects from left to right, then from front to back. `nlp` says the same in
            sentences.

    Raises:
        ValueError: another style.
    """
    if style not in STYLES:
        raise ValueError(f"style must be one of {', '.join(STYLES)}, not {style!r}")
    return {"structured": _structured, "ordered": _ordered, "nlp": _sentences}[style](scene)


def world_axes(scene: Scene) -> Scene:
    """The same scene with the world's axes for its sides: right is x and behind is y for every camera."""
    turned = {**scene, "directions": {side: [*way] for side, way in WORLD.items()}}
    return turned | {"relationships": relationships(turned)}


def positions(scene: Scene) -> list[tuple[float, float]]:
    """(to the right, to the back) of every object's centre from the middle of the ground, in scene units."""
    ways = [scene["directions"][side][:2] for side in ("right", "behind")]
    points = [thing["3d_coords"] for thing in scene["objects"]]
    return [tuple(x * way[0] + y * way[1] for way in ways) for x, y, _ in points]


def left_to_right(scene: Scene) -> list[int]:
    """Indices of the objects, the leftmost first."""
    return _along(scene, 0)


def front_to_back(scene: Scene) -> list[int]:
    """Indices of the objects, the foremost first."""
    return _along(scene, 1)


def names(scene: Scene) -> list[str]:
    """All four attributes of every object; of equal ones the leftmost is A, the next B, ..."""
    plain = [" ".join(t[name] for name in ("size", "color", "material", "shape")) for t in scene["objects"]]
    total, seen, found = Counter(plain), Counter(), dict(enumerate(plain))
    for index in left_to_right(scene):
        if total[plain[index]] > 1:
            found[index] = f"{plain[index]} {ascii_uppercase[seen[plain[index]]]}"
            seen[plain[index]] += 1
    return [found[index] for index in range(len(plain))]


def _along(scene: Scene, axis: int) -> list[int]:
    places = positions(scene)
    return sorted(range(len(places)), key=lambda index: (places[index][axis], index))


def _structured(scene: Scene) -> str:
    order, places, things = left_to_right(scene), positions(scene), scene["objects"]
    number = {index: count for count, index in enumerate(order, 1)}
    sides = relationships(scene)
    lines = ["number. object @ to the right, to the back; nearest object; left of; in front of"]
    for index in order:
        thing = things[index]
        words = " ".join(thing[name] for name in ("size", "color", "material", "shape"))
        parts = [f"{number[index]}. {words} @ {places[index][0]:z.1f}, {places[index][1]:z.1f}"]
        if len(things) > 1:
            parts.append(f"nearest {number[_nearest(scene, index)]}")
        for words, side in (("left of", "right"), ("front of", "behind")):
            if beyond := sorted(number[other] for other in sides[side][index]):
                parts.append(f"{words} {', '.join(map(str, beyond))}")
        lines.append("; ".join(parts))
    return "\n".join(lines)


def _nearest(scene: Scene, index: int) -> int:
    others = (other for other in range(len(scene["objects"])) if other != index)
    return min(others, key=lambda other: distance(scene, index, other))


def _ordered(scene: Scene) -> str:
    name = names(scene)
    across, away = (
        ", ".join(name[index] for index in order(scene)) for order in (left_to_right, front_to_back)
    )
    return f"From left to right: {across}.\nFrom front to back: {away}."


def _sentences(scene: Scene) -> str:
    name, order = names(scene), left_to_right(scene)
    if len(order) == 1:
        return f"The only object is a {name[0]}."
    told = [f"There are {len(order)} objects.", f"The leftmost one is a {name[order[0]]}."]
    for before, index in zip(order, order[1:], strict=False):
        told.append(
            f"Next to the right comes a {name[index]}, {_behind(scene, index, before)} the {name[before]}."
        )
    things = [f"the {name[index]}" for index in front_to_back(scene)]
    told.append(f"From the front to the back there are {_listed(things)}.")
    return " ".join(told)


def _behind(scene: Scene, index: int, other: int) -> str:
    """Where an object stands as seen from another, by CLEVR's rule."""
    away = positions(scene)
    gap = away[index][1] - away[other][1]
    if abs(gap) <= RELATION_EPSILON:
        return "as far back as"
    return "behind" if gap > 0 else "in front of"


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
