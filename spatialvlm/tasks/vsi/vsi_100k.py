"""VSI-100k (vsGRPO, arXiv 2504.00883): rows as `make_data/vsi_100k.py` writes them, and incorrect answers for
DPO.

A row holds VSI-Bench's `dataset, scene_name, question_type, question`; `answer`, a number or, where VSI-Bench
gives options, a word; its `frames`; and what the answer follows from: `labels, measures, geometry` and the
rule of `distance`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random

import pyarrow as pa

from spatialvlm.errors import RowError, UserError, require_at_least, shown
from spatialvlm.evaluation.benchmark import Benchmark, Parsed, Rule, micro_and_mean
from spatialvlm.example import Example, Video
from spatialvlm.files import rows, video
from spatialvlm.files.exclusion import usable_rows
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import reward
from spatialvlm.tasks.vsi.data import Mode
from spatialvlm.tasks.vsi.questions import (
    DIRECTION_WORDS,
    FAMILIES,
    TEMPLATES,
    WORDS,
    Candidate,
    family,
    room_of,
)
from spatialvlm.tasks.vsi.scoring import same_word, score
from spatialvlm.worlds.annotation import SceneAnnotation

TEXTS = ("id", "dataset", "scene_name", "family", "question_type", "question", "answer")
_NUMBERS = pa.list_(pa.float64())
_BOX = {"label": pa.string(), "centroid": _NUMBERS, "axes_lengths": _NUMBERS, "normalized_axes": _NUMBERS}
SCHEMA = pa.schema(
    {name: pa.string() for name in TEXTS}
    | {"frames": pa.list_(pa.string()), "labels": pa.list_(pa.string()), "measures": _NUMBERS}
    | {"geometry": pa.list_(pa.struct(_BOX)), "distance": pa.string()}
)
ROW_GROUP = 5000  # rows held before they are written
MIN_CHANGE = 0.2  # relative distance from the correct number that an incorrect one exceeds
MAX_FACTOR = 3.0  # a factor is between 1 / MAX_FACTOR and MAX_FACTOR


# ---- rows


def row(
    scene: SceneAnnotation, candidate: Candidate, number: int, frames: Sequence[str], distance: str
) -> rows.Row:
    """The row of a question.

    Args:
        number: of the question in its scene and family.
        frames: file names, relative to the file of the rows; none where there are none.
        distance: the rule that the question was made with.
    """
    boxes = [(label, box) for label in candidate.labels for box in scene.objects[label]]
    return {
        "id": f"vsi-{scene.scene}-{candidate.question_type}-{number}",
        "dataset": scene.dataset,
        "scene_name": scene.scene,
        "family": family(candidate.question_type),
        "question_type": candidate.question_type,
        "question": candidate.question,
        "answer": candidate.answer,
        "frames": [*frames],
        "labels": [*candidate.labels],
        "measures": [*map(float, candidate.measures)],
        "geometry": [
            {
                "label": label,
                "centroid": [*box.centroid],
                "axes_lengths": [*box.axes_lengths],
                "normalized_axes": [*box.normalized_axes],
            }
            for label, box in boxes
        ],
        "distance": distance,
    }


def write_parquet(file: Path, made: Iterable[rows.Row]) -> int:
    """Write rows in a stream; return how many there were."""
    return rows.write_parquet(file, SCHEMA, made, ROW_GROUP)


def load(
    path: str | Path,
    split: str = "train",
    limit: int | None = None,
    families: Sequence[str] = FAMILIES,
    num_frames: int = 16,
    need_frames: bool = False,
    tested: Callable[[], Collection[str]] = tuple,
    training: bool = False,
) -> LazyExamples:
    """The questions in the files' order, all checked now, each made when it is accessed.

    Args:
        path: the folder that `make_data/vsi_100k.py` wrote, one of its files, or a hub id.
        split: `train` or `validation`.
        limit: maximum number of questions, taken evenly from first to last, since they are sorted by scene.
        families: of `questions.FAMILIES`; other rows are skipped.
        num_frames: maximum number of a row's frames, spread from first to last. Videos are decoded now, and
            their frames kept in the user's cache.
        need_frames: whether every row must have frames.
        tested: returns the scenes of a test, which may have to be fetched: it is called when all rows are
            checked. No row may be of one of their rooms.
        training: rows that cannot be used are left out and counted (`files.exclusion`), not refused; one of a
            tested room is refused all the same.

    Returns:
        Examples with VSI-Bench's question type as task and the frames as a `Video`; of rows without frames
        the place of the video in VSI-Bench's layout, which cannot be opened. `meta` holds `family`, `scene`,
        `source` (the data set) and, of choices, `vocabulary`: the words that can be the answer.

    Raises:
        UserError: nothing at `path`; an invalid row, or one of a tested room; a duplicate id; a missing
            frame; a broken video; the message names it. In training, more than 1 % rows that cannot be used.
    """
    from spatialvlm import distributed  # imports torch

    if unknown := set(families) - set(FAMILIES):
        raise UserError(f"VSI-100k has the families {', '.join(FAMILIES)}, not {', '.join(sorted(unknown))}")
    require_at_least(1, limit=limit, num_frames=num_frames)
    table, folder = rows.read(path, split), rows.beside(path)
    others = [name for name in FAMILIES if name not in families]  # a row of no family is refused below
    numbers = [number for number, (_, each) in enumerate(table) if each.get("family") not in others]
    if not numbers:
        raise UserError(f"{path} has no VSI-100k row of split {split}")
    spread = [numbers[number] for number in vsibench.evenly_spaced(len(numbers), limit)]
    seen: dict[str, str] = {}
    existing: set[Path] = set()
    broken: dict[Path, str] = {}

    def usable(number: int) -> bool:
        where, each = table[number]
        example = _example(where, each, folder, num_frames)
        if example.id in seen:
            message = f"{where} has the id {example.id!r} of {seen[example.id]}; remove one of them"
            raise RowError(message, "duplicate id")
        frames = example.images if _names(each, "frames", where) else ()
        if need_frames and not frames:
            message = f"{where} has no frames to show; make the data with --frames FOLDER"
            raise RowError(message, "no frames")
        for frame in frames:
            if frame not in existing and not rows.is_file(frame):
                message = f"{where}: its frame {frame} is not there; add it or remove the row"
                raise RowError(message, "missing frame")
            if frame not in existing and frame.suffix.lower() not in video.VIDEO_SUFFIXES:
                rows.checked_file(frame, where)
            existing.add(frame)
            if frame in broken:
                raise RowError(f"{where}: its {broken[frame]}", "broken video")
        seen[example.id] = where
        return True

    chosen = usable_rows(spread, usable, f"{path} {split}", training=training)
    tested_rooms = set(map(room_of, tested()))
    for where, each in map(table.__getitem__, chosen.numbers if tested_rooms else ()):
        if room_of(scene := rows.text(each, "scene_name", where)) in tested_rooms:
            raise UserError(
                f"{where}: its scene {scene} is of a room that the test asks about too; make "
                "the data with --leave_out, or test on something else"
            )
    videos = {path: path for path in sorted(existing) if path.suffix.lower() in video.VIDEO_SUFFIXES}

    def decode() -> tuple[dict[Path, Video], dict[Path, str]]:
        return vsibench.sampled_frames(videos, num_frames, found := {}), found

    films, broken = distributed.on_main(decode)
    if broken:  # which is known only now: after all that takes less time
        seen.clear()
        chosen = usable_rows(spread, usable, f"{path} {split}", training=training)

    def make(number: int) -> Example:
        where, each = table[number]
        example = _example(where, each, folder, num_frames)
        return replace(example, images=films.get(example.images[0]) or Video(example.images))

    facts = {"excluded": chosen.excluded} if training else {}
    return LazyExamples(make, chosen.numbers, kept=1, facts=facts)


def _example(where: str, each: rows.Row, folder: rows.Folder | None, num_frames: int) -> Example:
    source, scene, of, kind, question = (rows.text(each, name, where) for name in TEXTS[1:-1])
    id = rows.as_id(rows.need(each, "id", where), "id", where)
    answer = rows.as_word(rows.need(each, "answer", where), "answer", where).strip()
    if kind not in TEMPLATES or family(kind) != of:
        message = f"{where}: 'question_type' {shown(kind)} is none of VSI-100k's of family {of!r}"
        raise RowError(message, "invalid 'question_type'")
    meta = {"family": of, "scene": scene, "source": source}
    if of in WORDS:
        meta["vocabulary"] = DIRECTION_WORDS.get(kind) or tuple(_names(each, "labels", where)[1:])
        if answer not in meta["vocabulary"]:
            allowed = ", ".join(meta["vocabulary"])
            message = f"{where}: 'answer' {shown(answer)} is none of: {allowed}; correct or remove the row"
            raise RowError(message, "'answer' is none of the words")
    elif _above_zero(answer) is None:
        message = (
            f"{where}: 'answer' must be a number above 0, not {shown(answer)}; correct or remove the row"
        )
        raise RowError(message, "'answer' is no number above 0")
    frames = _names(each, "frames", where)
    frames = [frames[number] for number in video.uniform(len(frames), num_frames)]
    images = tuple((folder or Path()) / name for name in frames) or (Path(source, f"{scene}.mp4"),)
    return Example(id, images, question, answer, kind, meta=meta)


def _names(each: rows.Row, name: str, where: str) -> list[str]:
    return rows.as_texts(each.get(name), name, where)


def _above_zero(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


# ---- incorrect answers


def rejected(example: Example, seed: int = 0) -> str:
    """The incorrect answer of a DPO pair, from the seed and the row's id alone.

    A word becomes another that could have been the answer. A number is multiplied by a factor, so that it is
    more than 20 % off, and written as precisely as the correct one; counts stay whole and at least 1.

    Raises:
        UserError: an answer that is neither a word with another in its `vocabulary` nor a number above 0.
    """
    rng = Random(f"{seed}-rejected-{example.id}")
    if "vocabulary" in example.meta:
        correct = example.answer.casefold()
        others = [word for word in example.meta["vocabulary"] if word.casefold() != correct]
        if not others:
            raise UserError(f"row {example.id!r}: no word but {example.answer!r} could be the answer")
        return rng.choice(others)
    try:
        decimals = max(0, -Decimal(example.answer).as_tuple().exponent)
        number = float(example.answer)
    except (ArithmeticError, TypeError, ValueError):  # no number; NaN has no exponent
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise UserError(f"row {example.id!r}: the answer must be a number above 0, not {example.answer!r}")
    if example.task == "object_counting":
        decimals = 0
    while True:  # a factor that does not show after rounding is sampled again; a large one always does
        factor = MAX_FACTOR ** rng.uniform(-1, 1)
        written = f"{number * factor:.{decimals}f}"
        if float(written) > 0 and abs(float(written) - number) > MIN_CHANGE * number:
            return written


# ---- the benchmark


def parse_words(text: str, example: Example) -> Parsed:
    """Parse a word of the example's vocabulary, or a number, as the rewards do."""
    vocabulary = example.meta.get("vocabulary")
    if vocabulary is None:
        return reward.parse_number(text)
    return next((word for word in vocabulary if same_word(text, word)), None)


def gold_words(example: Example) -> str | float:
    return example.answer if "vocabulary" in example.meta else float(example.answer)


BENCHMARK = Benchmark(
    "VSI, in words",
    load,
    {
        "strict": Rule(
            "strict", "the very word, or a number's mean relative accuracy", parse_words, gold_words, score
        )
    },
    micro_and_mean,
)


def inside_answer(benchmark: Benchmark, mode: Mode) -> Benchmark:
    """Return the benchmark parsing inside the only `<answer>`, if there is one; unchanged for vanilla."""
    if mode == "vanilla":
        return benchmark

    def within(rule: Rule) -> Rule:
        def parse(text: str, example: Example) -> Parsed:
            return rule.parse(reward.answer_text(text, mode) or text, example)

        return replace(rule, parse=parse, parse_gold=rule.gold)

    return replace(benchmark, rules={name: within(rule) for name, rule in benchmark.rules.items()})
