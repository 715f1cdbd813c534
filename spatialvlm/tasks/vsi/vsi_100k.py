"""VSI-100k (vsGRPO, arXiv 2504.00883): the rows that `make_data/vsi_100k.py` writes, and their check.

python -m spatialvlm.tasks.vsi.vsi_100k verify --meta_info scannet_meta_info_val.json --questions test.jsonl

`verify` answers VSI-Bench's questions anew from annotation (see `vsi_verify`). A row holds VSI-Bench's
`dataset, scene_name, question_type, question`; `answer`, a number or, of what VSI-Bench gives options for, a
word; its `frames`; and what the answer follows from: `labels, measures, geometry` and the rule of `distance`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spatialvlm import cli, distributed
from spatialvlm.errors import UserError
from spatialvlm.example import Example, Video
from spatialvlm.files import rows, video
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.tasks.vsi import videos as vsibench_videos
from spatialvlm.tasks.vsi.questions import FAMILIES, TEMPLATES, WORDS, Candidate, family, room
from spatialvlm.worlds.rooms.annotation import SceneAnnotation

TEXTS = ("id", "dataset", "scene_name", "family", "question_type", "question", "answer")
DIRECTIONS = {
    "object_rel_direction_easy": ("left", "right"),
    "object_rel_direction_medium": ("left", "right", "back"),
    "object_rel_direction_hard": ("front-left", "front-right", "back-left", "back-right"),
}


def row(
    annotation: SceneAnnotation, candidate: Candidate, number: int, frames: Sequence[str], distance: str
) -> rows.Row:
    """The row of a question.

    Args:
        number: of the question in its scene and family.
        frames: file names, relative to the file of the rows; none where there are none to show.
        distance: the rule that the question was made with.
    """
    boxes = [(label, box) for label in candidate.labels for box in annotation.objects[label]]
    return {
        "id": f"vsi-{annotation.scene}-{candidate.question_type}-{number}",
        "dataset": annotation.dataset,
        "scene_name": annotation.scene,
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


def load(
    path: str | Path,
    split: str = "train",
    limit: int | None = None,
    families: Sequence[str] = FAMILIES,
    num_frames: int = 16,
    shown: bool = False,
    tested: Collection[str] = (),
) -> Sequence[Example]:
    """The questions, in the files' order; all checked now, and made when looked at.

    Args:
        path: the folder that `make_data/vsi_100k.py` wrote, one of its files, or a hub id.
        split: `train` or `validation`.
        limit: at most this many. They lie scene by scene and are taken evenly from first to last.
        families: only these of `vsi_questions.FAMILIES`.
        num_frames: at most so many of a row's frames, spread from first to last. Videos are decoded now, and
            their frames kept in the user's cache (`vsibench_videos`).
        shown: every row must have frames.
        tested: scenes of a test; no row may be of one of their rooms.

    Returns:
        Examples with VSI-Bench's question type as task and the frames as a `Video`; where rows have none, the
        place of the video in VSI-Bench's layout, which cannot be opened. `meta` holds
        `family`, `scene`, `source` (the data set) and, of choices, `vocabulary`: the words that can be the
        answer.

    Raises:
        UserError: nothing at `path`; a row without a field or with one that cannot be, or of a room that is
            tested; two of one id; a frame that is not there; a broken video; the message names it.
    """
    if unknown := set(families) - set(FAMILIES):
        raise UserError(f"VSI-100k has the families {', '.join(FAMILIES)}, not {', '.join(sorted(unknown))}")
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, not {limit}")
    if num_frames < 1:
        raise UserError(f"--num_frames must be at least 1, not {num_frames}")
    table, folder = rows.read(path, split), rows.beside(path)
    asked = (*families, None)  # None: a row without a family, which is refused below
    numbers = [number for number, (_, each) in enumerate(table) if each.get("family") in asked]
    if not numbers:
        raise UserError(f"{path} has no VSI-100k row of split {split}")
    size = min(limit or len(numbers), len(numbers))
    chosen = [numbers[number * len(numbers) // size] for number in range(size)]
    rooms = set(map(room, tested))
    seen: dict[str, str] = {}
    there: set[Path] = set()
    for number in chosen:
        where, each = table[number]
        example = _example(where, each, folder, num_frames)
        if example.id in seen:
            raise UserError(f"{where} has the id {example.id!r} of {seen[example.id]}; remove one of them")
        seen[example.id] = where
        if shown and not each["frames"]:
            raise UserError(f"{where} has no frames to show; make the data with --frames FOLDER")
        if room(example.meta["scene"]) in rooms:
            raise UserError(
                f"{where}: its scene {example.meta['scene']} is of a room that the test asks about too; make "
                "the data with --leave_out, or test on something else"
            )
        for frame in example.images if each["frames"] else ():
            if frame not in there and not frame.is_file():
                raise UserError(f"{where}: its frame {frame} is not there; add it or remove the row")
            there.add(frame)

    videos = {place: place for place in sorted(there) if place.suffix.lower() in video.VIDEO_SUFFIXES}
    films = distributed.on_main(lambda: vsibench_videos.sampled(videos, num_frames))

    def make(number: int) -> Example:
        example = _example(*table[number], folder, num_frames)
        return replace(example, images=films.get(example.images[0]) or Video(example.images))

    return LazyExamples(make, chosen, kept=1)


def _example(where: str, each: rows.Row, folder: Path | None, num_frames: int) -> Example:
    id, source, scene, of, kind, question, answer = (rows.text(each, name, where) for name in TEXTS)
    if kind not in TEMPLATES or family(kind) != of:
        raise UserError(f"{where}: 'question_type' {kind!r} is none of VSI-100k's of family {of!r}")
    meta = {"family": of, "scene": scene, "source": source}
    if of in WORDS:
        meta["vocabulary"] = DIRECTIONS.get(kind) or tuple(_names(each, "labels", where)[1:])
        if answer not in meta["vocabulary"]:
            allowed = ", ".join(meta["vocabulary"])
            raise UserError(f"{where}: 'answer' {answer!r} is none of: {allowed}; mend or remove the row")
    elif not _above_zero(answer):
        raise UserError(f"{where}: 'answer' must be a number above 0, not {answer!r}; mend or remove the row")
    frames = _names(each, "frames", where)
    frames = [frames[number] for number in video.uniform(len(frames), num_frames)]
    images = tuple((folder or Path()) / name for name in frames) or (Path(source, f"{scene}.mp4"),)
    return Example(id, images, question, answer, kind, meta=meta)


def _names(each: rows.Row, name: str, where: str) -> list[str]:
    value: Any = each.get(name)
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise UserError(f"{where}: '{name}' must be a list of texts, not {value!r}; mend or remove the row")
    return value


def _above_zero(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and float(text) > 0
    except ValueError:
        return False


def main(argv: Sequence[str]) -> None:
    from spatialvlm.tasks.vsi import verify as vsi_verify

    if argv[:1] != ["verify"]:
        usage = "python -m spatialvlm.tasks.vsi.vsi_100k verify --meta_info FILE --questions FILE [--json]"
        print(f"error: usage: {usage}", file=sys.stderr)
        raise SystemExit(2)
    cli.run(vsi_verify.main, vsi_verify.Args, list(argv[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
