"""Item by item what lmms-eval 0.7.3 computes, for CV-Bench and VSI-Bench, on real questions and tricky texts.

Its package is heavy to import, so the two files that score are loaded by themselves, from where it is
installed: pip install --no-deps lmms-eval==0.7.3 loguru==0.7.3
"""

import importlib.util
import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from random import Random

import pytest
import tiny

from spatialvlm.evaluation.benchmark import to_record
from spatialvlm.example import Example
from spatialvlm.tasks.cvbench.scoring import BENCHMARK
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi.scoring import VSIBENCH
from spatialvlm.worlds.clevr import questions, scenes

PAIRS = 6000
TRICKY = [
    json.loads(line)["text"]
    for line in (Path(__file__).parents[1] / "parsing" / "completions.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
FORMS = (
    "{}",
    "({})",
    "{}.",
    "{})",
    " {}",
    "{}\n",
    "**{}**",
    "The answer is {}.",
    "{} because",
    "{}, maybe",
    "{}{}",
)


def theirs(task: str):
    """lmms-eval's `tasks/<task>/utils.py`."""
    pytest.importorskip("loguru", reason="lmms-eval's scorers need loguru: pip install loguru==0.7.3")
    try:
        installed = metadata.distribution("lmms-eval")
    except metadata.PackageNotFoundError:
        pytest.skip("lmms-eval is not installed: pip install --no-deps lmms-eval==0.7.3")
    assert installed.version == "0.7.3"
    file = installed.locate_file(f"lmms_eval/tasks/{task}/utils.py")
    spec = importlib.util.spec_from_file_location(f"lmms_eval_{task}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts(rng: Random, example: Example) -> str:
    """A tricky text, or the gold answer or another one in a form of its own."""
    if rng.random() < 0.6:
        return rng.choice(TRICKY)
    answer = example.answer.strip("()")
    if rng.random() < 0.4:
        answer = (
            rng.choice("ABCD") if example.choices else str(round(float(answer) * rng.uniform(0.4, 1.6), 2))
        )
    elif example.choices and rng.random() < 0.3:
        answer = rng.choice(example.choices)
    return rng.choice(FORMS).replace("{}", answer)


def scored(rule, example: Example, text: str) -> dict:
    return to_record(example, [text], rule, rule.gold(example))


def cvbench_examples() -> list[Example]:
    """CV-Bench's form over scenes that are not rendered; the sources take turns."""
    made = []
    for number in range(200):
        task = questions.CVBENCH_TASKS[number % 4]
        asked = questions.cvbench(scenes.make("agreement", number), Random(number), task)
        if asked:
            source = ("ADE20K", "COCO")[number // 4 % 2] if task in ("Count", "Relation") else "Omni3D"
            example = Example(f"cvbench-{number}", (tiny.image(0),), asked.question, asked.answer, task)
            made.append(replace(example, choices=asked.choices, meta={"source": source}))
    return made


@pytest.mark.slow
def test_cvbench_item_by_item():
    module, rng, rule = theirs("cv_bench"), Random(0), BENCHMARK.rules["official"]
    examples, records, submissions, right = cvbench_examples(), [], [], 0
    for number in range(PAIRS):
        example = rng.choice(examples)
        text = texts(rng, example)
        row = {"idx": number, "answer": example.answer, "type": "", "task": example.task}
        their = module.cv_bench_process_results(row | example.meta, [text])["cv_bench_acc"]
        our = scored(rule, example, text)
        assert (our["parsed"] or "", our["correct"]) == (their["pred_parsed"], their["is_correct"]), text
        right += our["correct"]
        records.append(our)
        submissions.append(their)
    assert 0.2 * PAIRS < right < 0.8 * PAIRS
    totals = BENCHMARK.aggregate(records)
    assert totals["official"].value == pytest.approx(module.cv_bench_default_aggregate_results(submissions))
    assert totals["micro"].value == pytest.approx(module.cv_bench_aggregate_results(submissions))


def test_vsibench_item_by_item(real_data):
    module, rng, rule = theirs("vsibench"), Random(0), VSIBENCH.rules["lmms_eval"]
    assert set(module.MCA_QUESTION_TYPES) == set(vsibench.CHOICE_TYPES)
    assert set(module.NA_QUESTION_TYPES) == set(vsibench.NUMBER_TYPES)
    examples, records, documents, partly = (
        VSIBENCH.load(real_data / "vsi" / "vsi_bench_scannet.jsonl"),
        [],
        [],
        0,
    )
    for _ in range(PAIRS):
        example = rng.choice(examples)
        text = texts(rng, example)
        document = {"question_type": example.task, "ground_truth": example.answer}
        module.vsibench_process_results(document, [text])
        their = document["accuracy" if example.choices else "MRA:.5:.95:.05"]
        our = scored(rule, example, text)
        assert our["score"] == their, (text, example.answer)
        read = module.fuzzy_matching(text).upper() or None if example.choices else module.extract_number(text)
        assert our["parsed"] == read, text
        partly += 0 < their < 1
        records.append(our)
        documents.append(document)
    assert partly > 0.02 * PAIRS and sum(record["correct"] for record in records) > 0.1 * PAIRS
    totals = VSIBENCH.aggregate(records)
    assert totals["official"].value == pytest.approx(module.vsibench_aggregate_overall(documents), abs=1e-6)
    for task, name in {
        "object_counting": "object_counting_mra",
        "object_abs_distance": "object_abs_distance_mra",
        "object_size_estimation": "object_size_estimation_mra",
        "room_size_estimation": "room_size_estimation_mra",
        "object_rel_distance": "object_rel_distance_accuracy",
        "object_rel_direction": "object_rel_direction_accuracy",
        "route_planning": "route_planning_accuracy",
        "obj_appearance_order": "obj_appearance_order_accuracy",
    }.items():
        their = getattr(module, f"vsibench_aggregate_{name}")(documents)
        assert totals[task].value == pytest.approx(their, abs=1e-6), task
