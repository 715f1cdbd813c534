"""CLEVR's and Super-CLEVR's questions, and our own question forms over CLEVR's scenes.

They come from the official folders (images/, scenes/, questions/), from the hub's image-problem-solution
rows, which hold CLEVR-CoGenT and Super-CLEVR too, or from rendered scenes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Literal

from spatialvlm import text_files
from spatialvlm.errors import UserError, shown
from spatialvlm.example import Example, without_image_tokens
from spatialvlm.files import rows
from spatialvlm.files.lazy import LazyExamples, mapped
from spatialvlm.images import open_image
from spatialvlm.parsing.answers import inside_answer_tags
from spatialvlm.parsing.thoughts import without_thoughts
from spatialvlm.tasks.clevr.official_files import check_places, check_scene
from spatialvlm.worlds.clevr import questions
from spatialvlm.worlds.clevr.facts import MAX_OBJECTS, VALUES, Scene
from spatialvlm.worlds.clevr.official_answers import family
from spatialvlm.worlds.clevr.questions import (
    CVBENCH_TASKS,
    FREE_KINDS,
    SAT_KINDS,
    Question,
    choose_answer_form,
)

EMBEDDED_SIZE = 800  # questions over rendered scenes, where no limit is given
YES_NO_FAMILIES = ("exist", "compare_integer", "compare_attribute")
YES_NO, COUNTS = ("yes", "no"), tuple(str(count) for count in range(MAX_OBJECTS + 1))
SIDES = {"lateral": ("left", "right"), "sagittal": ("front", "behind"), "image y": ("above", "below")}
VEHICLES = {
    "car": ("suv", "wagon", "minivan", "sedan", "truck", "regular car"),
    "bus": ("articulated bus", "regular bus", "double bus", "school bus"),
    "motorbike": ("chopper", "dirtbike", "scooter", "cruiser"),
    "aeroplane": ("jet", "fighter", "biplane", "airliner"),
    "bicycle": ("road bike", "utility bike", "mountain bike", "tandem bike"),
}
VEHICLE_SHAPES = sum(VEHICLES.values(), ())  # the answers to "What shape is ..."
# Super-CLEVR has one file of 300,000 questions, which its authors split by the images' numbers.
SUPERCLEVR_SPLITS = {"train": range(20_000), "val": range(20_000, 25_000), "test": range(25_000, 30_000)}


def load(
    path: str | Path,
    split: str | None = None,
    limit: int | None = None,
    form: Literal["official", "free"] = "official",
    need_images: bool = True,
) -> Sequence[Example]:
    """The official questions of CLEVR or Super-CLEVR, or our own short ones over CLEVR's scenes.

    Args:
        path: `embedded` for rendered scenes; an official folder (with `questions/`), or Super-CLEVR's; or
            rows with `image, problem, solution`: a hub id such as `MMInstruction/Clevr_CoGenT_ValA`,
            `..._ValB` or `MMInstruction/SuperClevr_Val`, a parquet or jsonl file, or a folder of those.
        split: of a folder with several (`train`, `val`, `test`): the one whose name is in the file names, by
            default `val`; of Super-CLEVR's folder the one that an image's number belongs to
            (`SUPERCLEVR_SPLITS`), by default the only one of its questions, of several `test`; of a hub id,
            by default `train`, the only one the hub has.
        limit: at most this many.
        form: `free` asks our own questions (`load_free`), of rendered scenes or an official folder.
        need_images: whether an image's file of a row must be there; False where answers are there already.

    Returns: Examples with the family as task. `meta` has `vocabulary`, the answers that a question allows; of
    a folder also `scene` (None without scenes) and `program`.

    Raises:
        UserError: no such folder, a file that is not JSON, a row without a question, an answer that can be or
            an image; the message names it.
    """
    return with_vocabulary(_load(path, split, limit, form, need_images))


def _load(
    path: str | Path, split: str | None, limit: int | None, form: str, need_images: bool
) -> Sequence[Example]:
    if str(path) == "embedded":
        from spatialvlm.worlds.clevr import series

        make = series.free if form == "free" else series.clevr
        return make(split or "test", limit or EMBEDDED_SIZE)
    if form == "free":
        return load_free(path, limit, split=split)
    if (Path(path) / "questions").is_dir():
        return _load_folder(Path(path), split, limit, need_images)
    if superclevr_questions(path):
        return _load_superclevr(Path(path), split, limit)
    if is_official_folder(path):
        raise UserError(f"{path} has no questions/ folder; CLEVR's official questions lie there")
    return _load_hub(path, split or "train", limit, need_images)


def vocabulary(example: Example) -> tuple[str, ...]:
    """The answers that a question allows, by its family: what the answer is parsed against."""
    family = example.task
    if family == "relation":
        return SIDES[example.meta["axis"]]
    if family in ("depth", "distance"):  # "Which is closer to the camera, the red cube or the sphere?"
        return re.search(r", the (.+?) or the (.+?)\?$", example.question).groups()
    values = VALUES
    if example.answer in VEHICLE_SHAPES:
        values = VALUES | {"shape": VEHICLE_SHAPES}
    if family == "attribute" or family.startswith("query_"):
        return values[example.meta.get("attribute") or family.removeprefix("query_")]
    if example.answer in YES_NO:
        return YES_NO
    return COUNTS if example.answer.isdecimal() else sum(values.values(), ())


def with_vocabulary(examples: Sequence[Example]) -> Sequence[Example]:
    """The same examples with `meta["vocabulary"]`."""
    return mapped(
        examples,
        lambda example: replace(example, meta=example.meta | {"vocabulary": vocabulary(example)}),
    )


def is_official_folder(path: str | Path) -> bool:
    """Whether a path is a folder in the official form, whole or in part."""
    return any((Path(path) / name).is_dir() for name in ("images", "scenes", "questions"))


def load_scenes(folder: str | Path, split: str | None = None) -> list[Scene]:
    """All scenes of an official folder whose images are there too.

    Raises:
        UserError: no such folder, no scenes, a file that is not JSON or holds no scenes, no image.
    """
    if not Path(folder).is_dir():
        raise UserError(f"no such folder: {folder}")
    files = sorted((Path(folder) / "scenes").glob("*.json"))
    scenes = _scenes(of_split(files, split)) if files else []
    if not scenes:
        raise UserError(f"{folder} has no scenes (scenes/*.json), which these questions are made from")
    present = [scene for scene in scenes if rows.is_file(image_file(Path(folder), scene["image_filename"]))]
    if not present:
        raise UserError(f"none of the {len(scenes)} scenes in {folder} has its image in images/")
    return present


def load_free(
    folder: str | Path,
    limit: int | None = None,
    kinds: Sequence[str] = FREE_KINDS,
    split: str | None = None,
    seed: int = 0,
) -> Sequence[Example]:
    """Our short questions over the real scenes and images. Without a limit, one of each kind per scene."""

    def ask(kind: str, scene: Scene, rng: Random) -> Question | None:
        return questions.free(scene, rng, kind)

    return _own_questions(folder, split, "free", kinds, ask, limit, seed)


def load_sat(
    folder: str | Path,
    limit: int | None = None,
    answer_form: str = "natural",
    polarity: str = "closer",
    split: str | None = None,
    seed: int = 0,
) -> Sequence[Example]:
    """Questions in SAT's form over the real scenes and images, to train on; limit as in `load_free`.

    Args:
        answer_form: `natural`, `letter` or `mixed`, as in `sat.load`.
        polarity: of depth and distance: `closer` or `balanced`.
    """

    def ask(kind: str, scene: Scene, rng: Random) -> Question | None:
        return questions.sat(scene, rng, kind, choose_answer_form(rng, answer_form), polarity)

    choose_answer_form(Random(0), answer_form)  # an unknown form fails before any scene is loaded
    return _own_questions(folder, split, "sat", SAT_KINDS, ask, limit, seed)


def load_cvbench(
    folder: str | Path,
    limit: int | None = None,
    ood: bool = False,
    split: str | None = None,
    seed: int = 0,
) -> Sequence[Example]:
    """Questions in CV-Bench's form over the real scenes, boxes drawn; limit as in `load_free`.

    With `ood`, Depth and Distance are polarity-flipped, under the same ids.
    """

    def ask(task: str, scene: Scene, rng: Random) -> Question | None:
        return questions.cvbench(scene, rng, task, ood)

    return _own_questions(folder, split, "cvbench", CVBENCH_TASKS, ask, limit, seed)


# ---- the official folder


def split_of(name: str) -> str | None:
    """`val` of `CLEVR_val_questions.json`, `valB` of `CLEVR_valB_000007.png`."""
    found = re.search(r"(?:^|_)((?:train|val|test)[AB]?)(?=[_.])", name)
    return found[1] if found else None


def of_split(files: list[Path], split: str | None) -> list[Path]:
    """The files of a split, by their names; of several splits `val` by default (`test` has no answers)."""
    named = {split_of(file.name) for file in files}
    if split is None:
        split = named.pop() if len(named) == 1 else "val"
    found = [file for file in files if split_of(file.name) == split]
    if not found:
        there = ", ".join(sorted(map(str, named)))
        raise UserError(f"no file of split '{split}' in {files[0].parent}, only of: {there}")
    return found


def question_files(folder: str | Path, split: str | None) -> list[Path]:
    """The files of a split's questions in an official folder.

    Raises:
        UserError: there is none.
    """
    files = sorted((Path(folder) / "questions").glob("*.json"))
    if not files:
        place = Path(folder) / "questions"
        raise UserError(f"{place} holds no .json file; CLEVR's official questions lie there")
    return of_split(files, split)


def _scenes(files: list[Path]) -> list[Scene]:
    scenes: list[Scene] = []
    for file in files:
        content = text_files.json_value(file)
        listed = content.get("scenes", [content]) if isinstance(content, dict) else None
        if not isinstance(listed, list):
            raise UserError(f"{file} holds no 'scenes'; it should be a CLEVR scenes file")
        for number, scene in enumerate(listed):
            check_scene(scene, f"{file} scene {number}")
            check_places(scene, f"{file} scene {number}")
        scenes += listed
    return scenes


def image_file(folder: Path, name: str) -> Path:
    """images/NAME, or images/SPLIT/NAME as the official archive has it."""
    nested = folder / "images" / (split_of(name) or "") / name
    return nested if rows.is_file(nested) else folder / "images" / name


def _load_folder(folder: Path, split: str | None, limit: int | None, need_images: bool) -> list[Example]:
    files = question_files(folder, split)
    split = split_of(files[0].name)
    listed = sorted((folder / "scenes").glob("*.json"))
    scene_files = [file for file in listed if split_of(file.name) == split]
    scenes = {scene["image_filename"]: scene for scene in _scenes(scene_files)}  # CLEVR's test split has none
    examples: list[Example] = []
    for file in files:
        content = text_files.json_value(file)
        if not isinstance(content, dict) or not isinstance(content.get("questions"), list):
            raise UserError(f"{file} holds no 'questions'; it should be a CLEVR questions file")
        has_split = any(isinstance(row, dict) and "split" in row for row in content["questions"])
        for number, row in enumerate(content["questions"]):
            if limit is not None and len(examples) >= limit:
                return examples
            where = f"{file} row {number}"
            text, name = _question(row, "question", where), rows.text(row, "image_filename", where)
            program = _program(row, where)
            index = rows.as_id(row.get("question_index", number), "question_index", where)
            named = rows.text(row, "split", where) if has_split else file.stem
            image = rows.as_image(image_file(folder, name), where)
            if need_images:
                rows.require_files([image], where)
            examples.append(
                Example(
                    id=f"clevr-{named}-{index}",
                    images=(image,),
                    question=text,
                    answer=_answer(row, "answer", where, text),
                    task=(family(program) if program else family(text)) or "other",
                    meta={"scene": scenes.get(name), "program": program},
                )
            )
    if not examples:
        raise UserError(f"{files[0]} holds no question")
    return examples


def _program(row: rows.Row, where: str) -> list[dict[str, Any]] | None:
    """The steps of a question; None where it has none. Raises UserError where they are something else."""
    steps = row.get("program") or None
    if steps is not None and not (
        isinstance(steps, list)
        and all(isinstance(step, dict) and isinstance(step.get("function"), str) for step in steps)
    ):
        raise UserError(
            f"{where}: 'program' must be a list of steps with a 'function', not {shown(steps)}; correct it"
        )
    return steps


def _question(row: rows.Row, name: str, where: str) -> str:
    """A question's text, which its family follows from: without tokens that stand for images."""
    return without_image_tokens(rows.text(row, name, where)).strip()


# ---- Super-CLEVR's folder


def superclevr_questions(folder: str | Path) -> Path | None:
    """The file of questions in a folder of Super-CLEVR's form; None where it is no such folder."""
    found = sorted(Path(folder).glob("*questions*.json")) if Path(folder).is_dir() else []
    return found[0] if found and (Path(folder) / "images").is_dir() else None


def _load_superclevr(folder: Path, split: str | None, limit: int | None) -> list[Example]:
    """Super-CLEVR's questions (Li et al., CVPR 2023): CLEVR's, about vehicles, as its authors publish them.

    Those whose image is not in the folder are left out, and one line says so. The scenes (one file per image)
    are not needed. Answers are JSON's own: true and false for yes and no, a number for a count, a text for an
    attribute.
    """
    file = superclevr_questions(folder)
    content = text_files.json_value(file)
    listed = content.get("questions") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{file} holds no 'questions'; it should be a Super-CLEVR questions file")
    by_split: dict[str | None, list[int]] = {}
    for number, row in enumerate(listed):
        name = rows.text(row, "image_filename", f"{file} row {number}")
        by_split.setdefault(_superclevr_split(name), []).append(number)
    chosen = split or ("test" if len(by_split) > 1 else next(iter(by_split)))
    if chosen not in by_split:
        there = ", ".join(name or "none (no number from 0 to 29,999)" for name in by_split)
        raise UserError(f"{file} has no question about an image of split '{chosen}', only of: {there}")
    images = {image.name for image in (folder / "images").iterdir()}
    numbers = by_split[chosen]
    present = [number for number in numbers if listed[number]["image_filename"].strip() in images]
    if not present:
        first = listed[numbers[0]]["image_filename"]
        raise UserError(
            f"none of the {len(numbers):,} questions of split '{chosen}' in {file} has its image in "
            f"{folder / 'images'} (the first is {first}); add them, or give another --split"
        )
    if len(present) < len(numbers):
        print(
            f"{folder} holds only some images of split '{chosen}': {len(present):,} of its {len(numbers):,} "
            "questions are taken",
            file=sys.stderr,
        )
    return [
        _vehicle_example(folder, f"{file} row {number}", number, listed[number]) for number in present[:limit]
    ]


def _superclevr_split(name: str) -> str | None:
    """`val` of `superCLEVR_new_020000.png`; None of a name without such a number."""
    found = re.search(r"(\d+)\.\w+$", name)
    return next((split for split, of in SUPERCLEVR_SPLITS.items() if found and int(found[1]) in of), None)


def _vehicle_example(folder: Path, where: str, number: int, row: Any) -> Example:
    question, name = _question(row, "question", where), rows.text(row, "image_filename", where)
    return Example(
        id=f"superclevr-{rows.as_id(row.get('question_index', number), 'question_index', where)}",
        images=(rows.checked_file(folder / "images" / name, where),),
        question=question,
        answer=_answer(row, "answer", where, question),
        task=family(question) or "other",
    )


def _answer(row: Any, name: str, where: str, question: str) -> str:
    """An answer as CLEVR writes it: `yes`, `no`, a count from 0 to 10, or a word.

    Raises:
        UserError: it is none of these, or no yes or no where the question wants one; the line names the row.
    """
    value = rows.need(row, name, where)
    if isinstance(value, bool) or family(question) in YES_NO_FAMILIES:
        return "yes" if rows.as_yes_no(value, name, where) else "no"
    said = rows.as_word(value, name, where).strip().lower()
    said = {"true": "yes", "false": "no"}.get(said, said)
    said = said.removesuffix(".0")
    if said not in COUNTS and not said.replace(" ", "").isalpha():
        raise UserError(
            f"{where}: '{name}' must be yes or no, a count from 0 to {MAX_OBJECTS} or a word, not "
            f"{shown(value)}; correct or remove the row"
        )
    return said


# ---- the hub's rows


def _fields(row: rows.Row, where: str) -> tuple[str, Any, str]:
    """(question, image, answer) of the hub's rows, or of R1-V's (question, image_path, ground_truth)."""
    if "ground_truth" in row and "solution" not in row:
        asked, image = _question(row, "question", where), rows.need(row, "image_path", where)
        return asked, image, _answer(row, "ground_truth", where, asked)
    asked, solution = _question(row, "problem", where), rows.text(row, "solution", where)
    concluded = without_thoughts(solution)  # thoughts may hold tags of their own
    inside = inside_answer_tags(concluded)
    if inside is None or "</answer>" not in concluded.lower():
        raise UserError(f"{where}: 'solution' holds no <answer>...</answer>: {solution[:80]!r}")
    answer = _answer({"<answer>": inside}, "<answer>", where, asked)
    return asked, rows.need(row, "image", where), answer


def _load_hub(path: str | Path, split: str, limit: int | None, need_images: bool) -> Sequence[Example]:
    """Examples that are made when looked at, all rows checked before."""
    table, folder = rows.read(path, split), rows.beside(path)
    prefix = "superclevr" if "superclevr" in str(path).lower() else "clevr"

    def make(number: int) -> Example:
        where, row = table[number]
        asked, image, answer = _fields(row, where)
        image = rows.as_image(image, where, folder)
        if need_images:
            rows.require_files([image], where)
        return Example(
            id=f"{prefix}-{split}-{number}",
            images=(image,),
            question=asked,
            answer=answer,
            task=family(asked) or "other",
        )

    numbers = range(len(table) if limit is None else min(limit, len(table)))
    for number in numbers:
        make(number)
    if not numbers:
        raise UserError(f"{path} holds no row")
    return LazyExamples(make, numbers, kept=1)  # images are not to pile up


# ---- our own forms over the real scenes


def _own_questions(
    folder: str | Path,
    split: str | None,
    form: str,
    kinds: Sequence[str],
    ask: Callable[[str, Scene, Random], Question | None],
    limit: int | None,
    seed: int,
) -> Sequence[Example]:
    """Every kind in turn over every scene, round after round, no question of a scene twice.

    Questions are sampled at once, images are opened on access.
    """
    scenes = load_scenes(folder, split)
    sampled: list[tuple[str, Scene, Question]] = []
    seen: set[tuple[str, str]] = set()
    fruitless = 0  # rounds without a new question: a count is often refused, so one such round is no end
    for number in count():
        before = len(sampled)
        for scene in scenes:
            for kind in kinds:
                name = f"clevr-{form}-{Path(scene['image_filename']).stem}-{kind}-{seed}-{number}"
                question = ask(kind, scene, Random(name))
                if question and (key := (scene["image_filename"], question.question)) not in seen:
                    seen.add(key)
                    sampled.append((name, scene, question))
        fruitless = fruitless + 1 if len(sampled) == before else 0
        if limit is None or len(sampled) >= limit or fruitless == 10:
            break

    for _, scene, _ in sampled:
        rows.checked_file(image_file(Path(folder), scene["image_filename"]), f"{folder} scenes")

    def make(index: int) -> Example:
        name, scene, question = sampled[index]
        image: Any = image_file(Path(folder), scene["image_filename"])
        if question.boxes:
            from spatialvlm.worlds.clevr.series import highlight  # which imports the renderer

            image = highlight(open_image(image), scene, question.boxes)
        return question.example(name, image, {"image": scene["image_filename"]})

    return LazyExamples(make, range(len(sampled) if limit is None else min(limit, len(sampled))))
