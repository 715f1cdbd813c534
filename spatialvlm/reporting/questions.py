"""The questions that a run was asked, read or rendered again from what its config.json names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.prompting import study
from spatialvlm.prompting.strategies import STRATEGIES
from spatialvlm.reporting.runs import Test
from spatialvlm.tasks import registry
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.clevr import described
from spatialvlm.tasks.counting import data as counting
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.sat import scoring as sat
from spatialvlm.tasks.sparkle import composite as sparkle_composite
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.sparkle.questions import FAMILIES
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi import rendered as vsi_rooms
from spatialvlm.tasks.vsr import data as vsr
from spatialvlm.tasks.whatsup import data as whatsup
from spatialvlm.worlds.clevr import series

Given = Mapping[str, Any]  # a run's arguments
SAYS = (  # of the arguments those that say which questions were asked
    *("benchmark", "eval_data", "data", "split", "eval_limit", "limit", "form", "image_folder"),
    *("description", "wording", "world_axes"),  # CLEVR with descriptions
    *("prompt", "num_frames", "frames", "eval_frames", "subset", "pruned_ids"),  # videos
    *("coco", "gqa"),  # What'sUp
)


def questions(test: Test) -> Sequence[Example]:
    """The questions of a test.

    Raises:
        UserError: the data are not to be had here.
    """
    given, name = test.arguments, test.benchmark
    if name == "Counting":
        where = ("data", "split", "counting_only", "start_sample", "samples", "image_cache")
        arguments = [given.get(each) for each in where]
        return counting.joined([counting.load(source, *arguments) for source in given["dataset"]])
    data = given.get("eval_data", given.get("data"))
    if data is None:
        raise UserError(f"{test.folder / 'config.json'} does not say which data it asked")
    limit = given.get("eval_limit" if "eval_data" in given else "limit")
    split = None if test.stage else given.get("split")
    if given.get("strategy") in STRATEGIES:
        strategy = STRATEGIES[given["strategy"]]
        return study.load(given["benchmark"], strategy, data, split, limit, given.get("image_folder"))[0]
    if name in ("CLEVR", "Super-CLEVR"):
        return _clevr(data, split, limit, given, len(test.records))
    if name == "SAT" and "circular" in given:
        how = (given[each] for each in ("answer_form", "max_images", "circular", "seed"))
        return sat.arrange(data, split or "test", limit, *how)
    if name == "VSR":
        return vsr.load(data, split or "test", limit, given.get("image_folder"))
    if name in ("VSI-Bench", "VSI, in words"):
        return _vsi(data, split, limit, given)
    if name == "Sparkle basic":
        source = given["form"] if data == sparkle.MADE else data
        return sparkle.load(source, split or "test", limit, pairs=len(FAMILIES))
    if name == "Sparkle composite":
        return sparkle_composite.load(data, limit)
    if name == "What'sUp":
        return whatsup.load(data, limit, given.get("coco"), given.get("gqa"))
    known = registry.titled(name)
    if known is None:
        raise UserError(f"{name} is no benchmark that is known here")
    examples = registry.load(known, data, split, limit)
    return cvbench.flip_polarity(examples) if test.flipped and name == "CV-Bench" else examples


def _clevr(data: str, split: str | None, limit: int | None, given: Given, n: int) -> Sequence[Example]:
    if "description" in given:
        axes = "world" if given.get("world_axes") else "camera"
        examples = described.load(data, split, limit, axes, images=not given.get("blank_image"))
        return described.prompted(examples, given["description"], given["wording"])
    free = given.get("form") == "free"
    if data == "embedded":
        return (series.free if free else series.clevr)(split or "test", limit or n)
    return (clevr.load_free if free else clevr.load)(data, split=split, limit=limit)


def _vsi(data: str, split: str | None, limit: int | None, given: Given) -> Sequence[Example]:
    """VSI-Bench's questions with the frames that were shown, or rendered rooms; nothing is fetched."""
    mode, frames = given.get("prompt", "vanilla"), given["num_frames"]
    if data == "embedded":
        form = "words" if "eval_data" in given else given.get("form") or "options"
        size = limit or vsi_rooms.QUESTIONS
        return vsi_rooms.load(split or "test", size, vsi_rooms.TEST_SEED, frames, form, mode=mode)
    folder = given.get("eval_frames" if "eval_data" in given else "frames")
    if folder is None:
        raise UserError(
            "the run does not name a folder of videos, and the hub's are not fetched for a report"
        )
    rows = vsibench.load(
        data, split or "test", limit, given.get("subset", "full"), mode, given.get("pruned_ids")
    )
    return vsibench.with_frames(rows, folder, frames, vsibench.HUB_ID)


def source(test: Test) -> str:
    """Tells one set of questions from another, so that each is read once."""
    more = ("answer_form", "max_images", "circular", "seed") if test.benchmark == "SAT" else ()
    counts = ("dataset", "counting_only", "start_sample", "samples") if test.benchmark == "Counting" else ()
    given = {name: test.arguments.get(name) for name in (*SAYS, *more, *counts)}
    if "eval_data" in test.arguments:
        given["data"] = None  # of the training
    given["prompt"] = given["prompt"] or "vanilla"  # some trainings have no other, and do not say so
    if test.arguments.get("strategy") in STRATEGIES:  # strategies differ in the pictures that they need
        given["images"] = STRATEGIES[test.arguments["strategy"]].images
    return json.dumps([test.benchmark, test.flipped, given], sort_keys=True, default=str)
