"""What'sUp (Kamath et al., EMNLP 2023, arXiv 2310.19785): which of two or four captions fits the photograph?

Sparkle's real-photograph tests. The captions of an image differ in their preposition alone. Files are those
of amitakamath/whatsup_vlms, in one folder:

    controlled_images_dataset.json   [{image_path, caption_options}, ...]: left, right, on, under
    controlled_clevr_dataset.json    the same: left, right, in front, behind (photographs too)
    coco_qa_one_obj.json, coco_qa_two_obj.json, vg_qa_one_obj.json, vg_qa_two_obj.json
                                     [[image_id, right caption, wrong caption], ...]

The first caption is always the right one, so they are shuffled, by a seed and the row's own id. The
controlled files come in sets: the same two things in four arrangements, with the same four captions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from spatialvlm import text_files
from spatialvlm.errors import UserError, require_at_least, shown
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.worlds.clevr.facts import VALUES, Scene, along
from spatialvlm.worlds.clevr.questions import LETTERS, cvbench_prompt

QUESTION = "Which caption fits the picture?"
RELATIONS = {  # what a caption says, by the word for it; one caption of a set has one of them
    "left": " to the left of ",
    "right": " to the right of ",
    "front": " in front of ",
    "behind": " behind ",
    "under": " under ",
    "on": " on ",
}
OPPOSITES = (("left", "right"), ("on", "under"), ("front", "behind"))
SET = 4  # arrangements of the same two things
EMBEDDED_SETS = 50  # of rendered scenes, where no limit is given
ARRANGEMENTS = ("left", "right", "front", "behind")  # of the rendered sets
CLEARLY = 2.5  # times as far along the direction in the caption as across it


@dataclass(frozen=True)
class Subset:
    """One of What'sUp's files.

    Args:
        file: its name.
        images: the folder beside it that its images are in; of COCO and GQA alone.
        digits: how long the number is that an image's file is called by, filled up with zeros.
    """

    file: str
    images: str | None = None
    digits: int = 0


SUBSETS = {
    "controlled_a": Subset("controlled_images_dataset.json"),
    "controlled_b": Subset("controlled_clevr_dataset.json"),
    "coco_one": Subset("coco_qa_one_obj.json", "val2017", 12),
    "coco_two": Subset("coco_qa_two_obj.json", "val2017", 12),
    "gqa_one": Subset("vg_qa_one_obj.json", "vg_images"),
    "gqa_two": Subset("vg_qa_two_obj.json", "vg_images"),
}


def load(
    path: str | Path,
    limit: int | None = None,
    coco: str | Path | None = None,
    gqa: str | Path | None = None,
    seed: int = 0,
) -> Sequence[Example]:
    """Lettered captions to choose among, the subset as task; all rows checked and all images found now.

    Args:
        path: the folder with What'sUp's files and, of the controlled ones, their images, as `image_path`
            says (with or without the `data` that it begins with); or `embedded`, for rendered scenes.
        limit: at most this many of each subset; of sets whole ones, and one at least.
        coco, gqa: folders of the images of COCO (val2017) and GQA (Visual Genome's); by default `val2017`
            and `vg_images` in `path`. Without them those files are left out, which is said.
        seed: of the order of captions.

    Returns: Examples; `meta["cluster"]` names what belongs together: the set, or the image. A set's ids end
    in its number and the relation that is right: `controlled_a-017-left`.

    Raises:
        UserError: no such folder or file, a row that is not whole, a set without one of its four, an image
            that is missing; the message names it.
    """
    require_at_least(1, limit=limit)
    if str(path) == "embedded":
        return _rendered(EMBEDDED_SETS if limit is None else max(1, limit // SET), seed)
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"--whatsup {path}: no such folder; give the one with {SUBSETS['controlled_a'].file}")
    elsewhere = {"val2017": coco, "vg_images": gqa}
    found: list[Callable[[], Example]] = []
    for name, subset in SUBSETS.items():
        if not (folder / subset.file).is_file():
            continue
        if subset.images is None:
            found += _controlled(name, folder, subset, limit, seed)
            continue
        images = Path(elsewhere[subset.images] or folder / subset.images)
        if images.is_dir():
            found += _captioned(name, folder / subset.file, images, subset.digits, limit, seed)
        elif elsewhere[subset.images]:
            raise UserError(f"{images}: no such folder; give the one with the images of {subset.file}")
        else:
            print(f"{name} is left out: its images are not in {images}", file=sys.stderr)
    if not found:
        files = ", ".join(subset.file for subset in SUBSETS.values())
        raise UserError(f"{folder} holds none of What'sUp's files whose images are there: {files}")
    return LazyExamples(lambda index: found[index](), range(len(found)))


def example(
    id: str, task: str, cluster: str, image: Any, captions: Sequence[str], seed: int, **meta: Any
) -> Example:
    """A question of What'sUp's form; the first caption is right, and comes where seed and id say."""
    choices = Random(f"{seed}-{id}").sample(list(captions), len(captions))
    return Example(
        id=id,
        images=(image,),
        question=QUESTION,
        answer=f"({LETTERS[choices.index(captions[0])]})",
        task=task,
        choices=tuple(choices),
        prompt=cvbench_prompt(QUESTION, choices),
        meta=meta | {"cluster": cluster},
    )


# ---- rows


def _read(file: Path) -> list:
    table = text_files.json_value(file)
    if not isinstance(table, list) or not table:
        raise UserError(f"{file} holds no list of rows")
    return table


def _captions(value: Any, number: int, name: str, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = rows.as_texts(value, name, where)
    if not isinstance(value, list | tuple) or len(value) != number:
        raise UserError(
            f"{where}: {name} must be {number} texts, not {shown(value)}; correct or remove the row"
        )
    texts = tuple(rows.as_text(text, name, where).strip() for text in value)
    if len(set(texts)) < number:
        raise UserError(
            f"{where}: {name} must differ from each other, not {shown(value)}; correct or remove the row"
        )
    return texts


def _there(image: Path, where: str) -> Path:
    if not rows.is_file(image):
        raise UserError(f"{where}: its image {image} is missing; put it there, or remove the row")
    return rows.checked_file(image, where)


def relation(caption: str, where: str) -> str:
    """The relation that a controlled caption says. Raises UserError naming `where`: none, or two."""
    said = [name for name, words in RELATIONS.items() if words in caption]
    if len(said) != 1:
        raise UserError(
            f"{where}: caption {shown(caption)} must say one of {', '.join(RELATIONS)}; correct the row"
        )
    return said[0]


def _controlled(
    name: str, folder: Path, subset: Subset, limit: int | None, seed: int
) -> list[Callable[[], Example]]:
    """A controlled file's questions, set by set in order of first appearance."""
    sets: dict[tuple[str, ...], dict[str, tuple[Path, tuple[str, ...]]]] = {}
    images: dict[Path, str] = {}
    for number, row in enumerate(_read(folder / subset.file)):
        where = f"{folder / subset.file} row {number}"
        named = Path(rows.text(row, "image_path", where))
        parts = named.parts[1:] if named.parts[0] == "data" else named.parts
        image = _there(folder.joinpath(*parts), where)
        if image in images:
            raise UserError(f"{where}: its image is that of {images[image]}; remove one")
        images[image] = where
        captions = _captions(
            rows.need(row, "caption_options", where), SET, "the captions of 'caption_options'", where
        )
        group = sets.setdefault(tuple(sorted(captions)), {})
        said = relation(captions[0], where)
        if said in group:
            raise UserError(
                f"{where}: another row has its captions with the same one first; correct or remove it"
            )
        group[said] = image, captions
    found = []
    for number, group in enumerate(list(sets.values())[: limit and max(1, limit // SET)]):
        if len(group) < SET:
            file = next(iter(group.values()))[0].name
            raise UserError(
                f"{folder / subset.file}: the set of {file} has {len(group)} images ({', '.join(group)}) "
                f"of {SET}; pairs and sets cannot be scored without all"
            )
        cluster = f"{name}-{number:03d}"
        for said, (image, captions) in group.items():
            found.append(_made(f"{cluster}-{said}", name, cluster, image, captions, seed))
    return found


def _captioned(
    name: str, file: Path, images: Path, digits: int, limit: int | None, seed: int
) -> list[Callable[[], Example]]:
    """The questions of a file of COCO or GQA, in its order."""
    found, first, again = [], {}, []
    for number, row in enumerate(_read(file)[:limit]):
        where = f"{file} row {number}"
        if not isinstance(row, list) or len(row) != 3:
            raise UserError(f"{where}: must be [image id, right caption, wrong caption], not {shown(row)}")
        image_id = rows.as_id(row[0], "image id", where)
        if not (image_id.isascii() and image_id.isdigit()):
            raise UserError(
                f"{where}: image id must be a number, not {shown(row[0])}; correct or remove the row"
            )
        captions = _captions(row[1:], 2, "the captions", where)
        image = _there(images / f"{image_id.zfill(digits)}.jpg", where)
        if first.setdefault((image, captions), number) != number:
            again.append(number)
        id, cluster = f"{name}-{number:05d}", f"{name}-image-{image_id}"
        found.append(_made(id, name, cluster, image, captions, seed))
    if again:
        print(
            f"warning: {len(again)} rows of {file} repeat an earlier one and count again; the first is row "
            f"{again[0]}",
            file=sys.stderr,
        )
    return found


def _made(
    id: str, task: str, cluster: str, image: Path, captions: tuple[str, ...], seed: int
) -> Callable[[], Example]:
    return lambda: example(id, task, cluster, image, captions, seed)


# ---- rendered scenes


def _rendered(sets: int, seed: int) -> Sequence[Example]:
    """`sets` times four questions, each set made from (seed, number) alone; ids as of What'sUp's own sets.

    A set is two kinds of objects, told apart by colour and shape. Two-object scenes of CLEVR's are sampled
    until the first object has been clearly to the left, to the right, in front and behind of the second; the
    objects keep their places and sizes there, and get the set's colours, shapes and materials.
    """
    made = lru_cache(maxsize=32)(lambda number: _rendered_set(number, seed))
    return LazyExamples(lambda index: made(index // SET)[index % SET], range(SET * sets))


def _rendered_set(number: int, seed: int) -> list[Example]:
    from spatialvlm.worlds.clevr import scenes
    from spatialvlm.worlds.clevr.series import HEIGHT, WIDTH

    seen = (
        scenes.MINIMUM_PIXELS * WIDTH * HEIGHT / (scenes.WIDTH * scenes.HEIGHT)
    )  # pixels per object, at least
    cluster = f"rendered-{number:03d}"
    rng = Random(f"whatsup-{seed}-{number}")
    colours, shapes = rng.sample(VALUES["color"], 2), rng.sample(VALUES["shape"], 2)
    kinds = [
        {"color": colour, "shape": shape, "material": rng.choice(VALUES["material"])}
        for colour, shape in zip(colours, shapes, strict=True)
    ]
    first, second = (f"{kind['color']} {kind['shape']}" for kind in kinds)
    captions = [f"A {first}{RELATIONS[said]}a {second}" for said in ARRANGEMENTS]
    images: dict[str, Image.Image] = {}
    for attempt in count():
        scene = scenes.make(f"whatsup-{seed}-{number}", attempt, 2, 2)
        said = arrangement(scene)
        if said is None or said in images:
            continue
        objects = [
            {name: thing[name] for name in ("size", "rotation", "3d_coords", "pixel_coords")} | kind
            for thing, kind in zip(scene["objects"], kinds, strict=True)
        ]
        rendered = scenes.render_scene(scene | {"objects": objects}, WIDTH, HEIGHT)
        if all((rendered.objects == index).sum() >= seen for index in range(2)):
            images[said] = rendered.image
        if len(images) == SET:
            break
    found = []
    for said in ARRANGEMENTS:
        right = captions[ARRANGEMENTS.index(said)]
        ordered = [right, *(caption for caption in captions if caption != right)]
        found.append(example(f"{cluster}-{said}", "rendered", cluster, images[said], ordered, seed))
    return found


def arrangement(scene: Scene) -> str | None:
    """Where the first thing clearly is as seen from the second; None where two directions could be said."""
    to_the_left, in_front = along(scene, 0, 1, "left"), along(scene, 0, 1, "front")
    if abs(to_the_left) >= CLEARLY * abs(in_front):
        return "left" if to_the_left > 0 else "right"
    if abs(in_front) >= CLEARLY * abs(to_the_left):
        return "front" if in_front > 0 else "behind"
    return None
