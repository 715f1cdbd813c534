"""VSI-Bench (Yang et al., "Thinking in Space", arXiv 2412.14171): 5,130 questions about videos of rooms.

Rows hold `id, dataset, scene_name, question_type, question, ground_truth, options`; `options` are lettered
("A. left"), or null for numbers. `load` reads the text alone: an example's image is then the path of its
video in the benchmark's layout (`scannet/scene0277_02.mp4`), which cannot be opened as an image, so that no
model answers without frames unnoticed. `with_frames` puts the frames there.

VSI-Bench-Debiased (Brown et al., arXiv 2511.04655) are the questions that its authors did not prune: the
hub's `pruned_ids.txt`, or the column `pruned` of newer files.

Prompts are vsGRPO's (arXiv 2504.00883), three for training and three for evaluation. It published the
sentences of vanilla, think's and the beginning of observe's for evaluation, and that in training the
reasoning stands in `<think>`, the observation in `<observe>` and the short answer in `<answer>`; the rest of
the wording is ours.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from tqdm import tqdm

from spatialvlm import text_files
from spatialvlm.disk import CACHE_ELSEWHERE, cache_folder, disk_errors, whole
from spatialvlm.errors import UserError, require_at_least, shown
from spatialvlm.example import Example, Video
from spatialvlm.files import hub, rows, video

HUB_ID = "nyu-visionx/VSI-Bench"
DIRECTIONS = ("object_rel_direction_easy", "object_rel_direction_medium", "object_rel_direction_hard")
CHOICE_TYPES = ("object_rel_distance", *DIRECTIONS, "route_planning", "obj_appearance_order")
NUMBER_TYPES = ("object_counting", "object_abs_distance", "object_size_estimation", "room_size_estimation")
COLUMNS = ("id", "dataset", "scene_name", "question_type", "question", "ground_truth")  # and `options`
LETTERS = "ABCDEFGH"  # of options

Subset = Literal["full", "debiased", "pruned"]
PRUNED_IDS = "pruned_ids.txt"

FRAMES = "These are frames of a video."  # as the authors' evaluation begins (lmms_eval/tasks/vsibench)
FRAME_LIST = "frames.json"  # beside a video's cached frames

Mode = Literal["vanilla", "think", "observe"]
MODES: tuple[Mode, ...] = ("vanilla", "think", "observe")
SHORT = "Please provide the short answer with one or two words or a number."  # published
TRAINING = {
    "vanilla": SHORT,
    "think": "Please think about the question first. Give your thoughts in <think> </think> and then the "
    "short answer, one or two words or a number, in <answer> </answer>.",
    "observe": "Please observe the video first. Give your observation in <observe> </observe> and then the "
    "short answer, one or two words or a number, in <answer> </answer>.",
}
PHRASE = "answer the question using a single word or phrase."
LETTER = "answer with the option's letter from the given choices directly."
EVALUATION = {  # what comes before PHRASE or LETTER
    "vanilla": "Please ",
    "think": "Let's think step by step and then ",
    "observe": "Please observe the video first and then ",
}


def load(
    path: str | Path = HUB_ID,
    split: str = "test",
    limit: int | None = None,
    subset: Subset = "full",
    mode: Mode = "vanilla",
    pruned_ids: str | Path | None = None,
) -> list[Example]:
    """Load the questions in their order, without frames.

    Args:
        path: a parquet, jsonl or json file or a folder of those, with the hub's own columns; or a hub id
            (`nyu-visionx/VSI-Bench`, `...@revision`), whose `test.jsonl` is read.
        limit: maximum number of questions. Rows are sorted by type; they are taken evenly from first to last,
            so that every type stays in.
        subset: all questions, those of VSI-Bench-Debiased, or those that it leaves out.
        mode: of the prompt; `vanilla` is the benchmark's own.
        pruned_ids: a file of the ids that VSI-Bench-Debiased leaves out, one per line; by default the rows'
            column `pruned`, or `pruned_ids.txt` beside them or on the hub.

    Returns:
        Examples whose `answer` is a letter, or a number as the benchmark writes it, `task` the question type,
        and `choices` the options without their letters.

    Raises:
        UserError: nothing at `path`, a missing column, an invalid row, a duplicate id, or no information on
            which rows are pruned; the message names it.
    """
    require_at_least(1, limit=limit)
    seen: dict[str, str] = {}
    examples = []
    table = read(path, split)
    is_pruned = _pruning(table, path, pruned_ids) if subset != "full" else None
    for where, row in table:
        example = _example(where, row, mode)
        if example.id in seen:
            raise UserError(f"{where} has the id {row['id']!r} of {seen[example.id]}; remove one of them")
        seen[example.id] = where
        if is_pruned is None or is_pruned(where, row) == (subset == "pruned"):
            examples.append(example)
    if not examples:
        raise UserError(f"{path} has no VSI-Bench row" + (f" of the subset {subset}" if seen else ""))
    return [examples[number] for number in evenly_spaced(len(examples), limit)]


def evenly_spaced(size: int, limit: int | None) -> list[int]:
    """`limit` of the numbers below `size`, evenly from first to last; all where there are fewer."""
    count = min(limit or size, size)
    return [number * size // count for number in range(count)]


def read(path: str | Path = HUB_ID, split: str = "test") -> rows.Rows:
    """Read the rows as they are; of a hub id its `<split>.jsonl`, or what a revision before it has.

    Raises:
        UserError: no rows there.
    """
    if hub.on_hub(path):
        try:
            return rows.read(hub.download(path, f"{split}.jsonl"), split)
        except hub.MissingFile:
            return rows.read(path, split)
    return rows.read(path, split)


def scenes(path: str | Path = HUB_ID) -> set[str]:
    """The scenes of the rows, to be excluded from training by whoever tests on them.

    Raises:
        UserError: no rows there, or a row without a scene.
    """
    return {rows.text(row, "scene_name", where) for where, row in read(path)}


# ---- prompts


def prompt(question: str, choices: Sequence[str] | None = None, mode: Mode = "vanilla") -> str:
    """The prompt of evaluation, as the authors have it; `mode` changes its last line alone."""
    lines = [FRAMES, question]
    if choices is not None:
        options = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
        lines += ["Options:", *options]
    return "\n".join([*lines, evaluation_request(mode, letters=choices is not None)])


def evaluation_request(mode: Mode, letters: bool = False) -> str:
    """The last line of an evaluation prompt: a request for a word or number, or for an option's letter.

    Raises:
        KeyError: another mode.
    """
    if letters and mode == "vanilla":
        return LETTER.capitalize()  # VSI-Bench's own
    return EVALUATION[mode] + (LETTER if letters else PHRASE)


def training_prompt(question: str, mode: Mode) -> str:
    """The question, and below it how to answer. Raises KeyError for another mode."""
    return f"{question}\n{TRAINING[mode]}"


# ---- rows


def _pruning(table: rows.Rows, path: str | Path, given: str | Path | None) -> Callable[[str, rows.Row], bool]:
    """A test of whether VSI-Bench-Debiased leaves a row out."""
    beside = None if hub.on_hub(path) else rows.beside(path)
    file = Path(given) if given else beside / PRUNED_IDS if beside else None
    if given and not file.is_file():
        raise UserError(f"--pruned_ids {file} is no file; give the hub's {PRUNED_IDS}")
    if not given and len(table) and "pruned" in table[0][1]:
        return _pruned
    if file is None:
        file = hub.download(path, PRUNED_IDS)
    if not file.is_file():
        raise UserError(
            f"--subset: the rows of {path} have no column 'pruned' and {file} is not there; give the hub's "
            f"{PRUNED_IDS} with --pruned_ids"
        )
    known = {rows.as_id(rows.need(row, "id", where), "id", where) for where, row in table}
    listed = rows.list_in(text_files.read(file))
    if isinstance(listed, list):
        lines = [(str(file), rows.as_id(each, "id", str(file))) for each in listed]
    else:
        lines = [(f"{file} line {number}", line) for number, line in text_files.lines(file)]
    named = dict(_pruned_id(line, where, known) for where, line in lines)
    if not named.keys() & known:
        raise UserError(f"{file} names no id that {path} has; give both of one version")
    if unknown := [where for id, where in named.items() if id not in known]:
        print(
            f"warning: {len(unknown)} of the {len(named)} ids that {file} names are none of {path}'s; the "
            f"first is {unknown[0]}",
            file=sys.stderr,
        )
    return lambda where, row: rows.as_id(row["id"], "id", where) in named


def _pruned_id(line: str, where: str, known: Collection[str]) -> tuple[str, str]:
    """(id, where): what a line of pruned ids names, without the quotes and commas of a list."""
    id = line.strip("[]\"', \t")
    id = id if id in known else re.sub(r"^([0-9]+)\.0$", r"\1", id)  # pandas's 3.0
    if id in known or re.fullmatch(r"[\w.-]+", id):
        return id, where
    raise UserError(f"{where}: {line[:80]!r} is no id; write one id per line")


def _pruned(where: str, row: rows.Row) -> bool:
    return rows.as_yes_no(rows.need(row, "pruned", where), "pruned", where)


def _example(where: str, row: rows.Row, mode: Mode) -> Example:
    if "options" not in row:
        raise UserError(f"{where} has no column 'options'; VSI-Bench's own columns are needed")
    for name in COLUMNS:
        value = rows.need(row, name, where)
        if name not in ("id", "ground_truth"):
            rows.as_text(value, name, where)
    kind = row["question_type"]
    if kind not in CHOICE_TYPES + NUMBER_TYPES:
        known = ", ".join(CHOICE_TYPES + NUMBER_TYPES)
        raise UserError(f"{where}: 'question_type' {shown(kind)} is none of VSI-Bench's: {known}")
    if kind in CHOICE_TYPES:
        choices = _choices(row["options"], where)
        answer = rows.as_letter(row["ground_truth"], len(choices), "ground_truth", where)
    else:
        if row["options"] not in (None, "", "[]") and row["options"] != []:
            raise UserError(f"{where}: {kind} asks for a number, but 'options' are {shown(row['options'])}")
        choices, answer = None, _number(row["ground_truth"], where)
    return Example(
        id=f"vsibench-{rows.as_id(row['id'], 'id', where)}",
        images=(Path(row["dataset"], f"{row['scene_name']}.mp4"),),
        question=row["question"],
        answer=answer,
        task=kind,
        choices=choices,
        prompt=prompt(row["question"], choices, mode),
        meta={"source": row["dataset"], "scene": row["scene_name"]},
    )


def _choices(options: Any, where: str) -> tuple[str, ...]:
    """Options without the letters that they must begin with, in order."""
    listed = [] if options is None else rows.as_texts(options, "options", where)
    if not 2 <= len(listed) <= len(LETTERS):
        raise UserError(f"{where}: 'options' must be a list of two or more, not {shown(options)}")
    for letter, option in zip(LETTERS, listed, strict=False):
        if not option.startswith(f"{letter}. ") or not option[3:].strip():
            raise UserError(f"{where}: option {shown(option)} must begin with '{letter}. ' and have a text")
    return tuple(option[3:].strip() for option in listed)


def _number(value: Any, where: str) -> str:
    """A number above 0, relative to which an error can be measured, as text."""
    try:
        number = float(value) if isinstance(value, str | int | float) and value is not True else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and number > 0) or "_" in str(value):  # 1_0 is 10 to Python alone
        raise UserError(
            f"{where}: 'ground_truth' must be a number above 0, not {shown(value)}; correct the row"
        )
    return rows.as_word(value, "ground_truth", where).strip()


# ---- frames

Name = TypeVar("Name")
Scene = tuple[str, str]  # data set and name: ("scannet", "scene0277_02")


def load_with_frames(folder: str | Path | None, num_frames: int, **arguments: Any) -> list[Example]:
    """Load the questions (`load`'s arguments), each with its scene's frames (`with_frames`).

    Videos are of the same revision as the questions, where those are the hub's.
    """
    path = arguments.get("path", HUB_ID)
    hub_id = str(path) if hub.without_revision(path) == HUB_ID else HUB_ID
    return with_frames(load(**arguments), folder, num_frames, hub_id)


def with_frames(
    examples: Sequence[Example], folder: str | Path | None, num_frames: int, hub_id: str = HUB_ID
) -> list[Example]:
    """The same questions, each with its scene's frames as a `Video` of paths.

    Every video is found and decoded before a model runs, so that a missing or broken one is named then.

    Args:
        folder: of the videos, laid out as `find` describes; None fetches the hub's.
        num_frames: per scene, spread from first to last.
        hub_id: of the data set with `scannet.zip`, `arkitscenes.zip` and `scannetpp.zip`, of which only the
            videos asked for are fetched.

    Raises:
        UserError: a missing or broken video, a number of frames below 1.
    """
    from spatialvlm import distributed  # imports torch

    require_at_least(1, num_frames=num_frames)
    names = sorted({(example.meta["source"], example.meta["scene"]) for example in examples})

    def prepare() -> dict[Scene, Video]:
        if folder is None:
            return sampled_frames(fetch(names, hub_id), num_frames)
        return sampled_frames({scene: find(Path(folder), scene) for scene in names}, num_frames)

    videos = distributed.on_main(prepare)
    return [
        replace(example, images=videos[example.meta["source"], example.meta["scene"]]) for example in examples
    ]


def find(folder: Path, scene: Scene) -> Path:
    """A scene's video `<data set>/<scene>.mp4` or images `<data set>/<scene>/`, with or without data set.

    Raises:
        UserError: none of those is there.
    """
    source, name = scene
    for place in (folder / source, folder):
        for path in [place / f"{name}{suffix}" for suffix in video.VIDEO_SUFFIXES] + [place / name]:
            if path.exists():
                return path
    raise UserError(
        f"--frames {folder} has no video of scene {source}/{name}: neither {source}/{name}.mp4 nor a folder "
        f"of images {source}/{name}/; add it, or fetch the videos of the data set's page"
    )


def fetch(names: Sequence[Scene], hub_id: str) -> dict[Scene, Path]:
    """Extract the hub's videos of these scenes from its archives into the user's cache.

    Raises:
        UserError: an archive that cannot be downloaded, is broken, or lacks a scene's video.
    """
    _, pinned, revision = hub_id.partition("@")
    target = cache_folder() / f"vsibench{pinned}{revision.replace('/', '-')}"
    files = {scene: target / scene[0] / f"{scene[1]}.mp4" for scene in names}
    for source in sorted({source for source, _ in names}):
        missing = {name: file for (of, name), file in files.items() if of == source and not file.is_file()}
        if not missing:
            continue
        archive = hub.open_file(hub_id, f"{source}.zip")
        where = archive if isinstance(archive, Path) else f"{hub_id}'s {source}.zip"
        try:
            with zipfile.ZipFile(archive) as opened, disk_errors(target, CACHE_ELSEWHERE):
                members = {Path(member.filename).name: member for member in opened.infolist()}
                for name, file in missing.items():
                    if file.name not in members:
                        raise UserError(f"{where} holds no video of scene {source}/{name}; fetch it again")
                wanted = sorted(missing.values(), key=lambda file: members[file.name].header_offset)
                for file in tqdm(wanted, f"{source}'s videos", unit="video", delay=2):
                    packed = opened.open(members[file.name])
                    with whole(file, shared=True) as aside, packed, aside.open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{where} is no whole archive ({error}); delete it and run again") from None
    return files


def sampled_frames(
    videos: Mapping[Name, Path], num_frames: int, broken: dict[Path, str] | None = None
) -> dict[Name, Video]:
    """The frames of every video or folder of images, by its name.

    Videos are decoded on all cores, once: their frames stay as PNG files in the user's cache.

    Args:
        broken: where given, a broken video is not refused: what is wrong with it is put here.

    Raises:
        UserError: a broken video, a folder without images.
    """
    files = {file for file in videos.values() if not file.is_dir() and not _cached(file, num_frames).is_dir()}
    errors = {}
    for file, error in _all_decoded(sorted(files), num_frames):
        if error and broken is None:
            raise UserError(error)
        if error:
            errors[file] = error
    if broken is not None:
        broken.update(errors)
    return {name: _frames(file, num_frames) for name, file in videos.items() if file not in errors}


def _all_decoded(files: Sequence[Path], num_frames: int) -> Iterator[tuple[Path, str | None]]:
    """Decode videos; yields each with what is wrong with it, None where nothing is."""
    decode = partial(_decode, num_frames=num_frames)
    if len(files) <= 2:
        yield from zip(files, map(decode, files), strict=True)
        return
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(files))) as pool:
        bar = tqdm(pool.map(decode, files), "videos", len(files), unit="video")
        yield from zip(files, bar, strict=True)


def _cached(file: Path, num_frames: int) -> Path:
    """The folder of a video's frames; another one when the video changes."""
    status = file.stat()
    # 2: since all frames are as a player shows them
    state = f"2 {file.resolve()} {status.st_size} {status.st_mtime_ns} {num_frames}"
    code = hashlib.sha256(state.encode()).hexdigest()[:16]
    return cache_folder() / "frames" / f"{file.stem}-{code}"


def _decode(file: Path, num_frames: int) -> str | None:
    """Decode a video into its folder, which is there whole or not at all; returns what is wrong."""
    try:
        frames = video.frames(file, num_frames)
    except UserError as error:
        return str(error)
    folder = _cached(file, num_frames)
    with disk_errors(folder, CACHE_ELSEWHERE), whole(folder, shared=True) as aside:
        aside.mkdir()
        for index, image in zip(frames.indices, frames.images, strict=True):
            image.save(aside / f"{index:06}.png", compress_level=1)
        (aside / FRAME_LIST).write_text(json.dumps({"interval": frames.interval}), encoding="utf-8")
    return None


def _frames(file: Path, num_frames: int) -> Video:
    folder = file if file.is_dir() else _cached(file, num_frames)
    images = video.in_folder(folder)
    if not images:
        raise UserError(
            f"{folder} holds no image ({', '.join(video.IMAGE_SUFFIXES)}); add the scene's frames"
        )
    chosen = [images[number] for number in video.uniform(len(images), num_frames)]
    if file.is_dir():  # nothing states how far apart they were taken
        return Video(rows.checked_file(image, str(folder)) for image in chosen)
    interval = json.loads((folder / FRAME_LIST).read_text(encoding="utf-8"))["interval"]
    return Video(chosen, interval) if interval else Video(chosen)
