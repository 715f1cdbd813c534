"""The report: what it reads from run folders, its tables, plots and items."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from report_runs import always_a, mute, right, write, write_training

from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.ablations import shuffle_images
from spatialvlm.evaluation.benchmark import to_record
from spatialvlm.evaluation.summary import summarize
from spatialvlm.papers import sparkle, vsi
from spatialvlm.papers.sparkle import SparkleArgs
from spatialvlm.papers.vsi import VSIArgs
from spatialvlm.prompting import study
from spatialvlm.prompting.strategies import STRATEGIES
from spatialvlm.reporting import __main__ as report
from spatialvlm.reporting import comparison, explorer, plots, tables
from spatialvlm.reporting import runs as loading
from spatialvlm.run_folder import DataSource, Run
from spatialvlm.tasks.clevr.scoring import BENCHMARK as CLEVR
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.cvbench import published
from spatialvlm.tasks.registry import load_rows
from spatialvlm.tasks.sat import data as sat_data
from spatialvlm.tasks.sat import scoring as sat
from spatialvlm.tasks.sparkle.scoring import BASIC, with_vocabulary
from spatialvlm.tasks.vsi.vsi_100k import BENCHMARK as WORDS
from spatialvlm.tasks.vsr import scoring as vsr
from spatialvlm.worlds.clevr import series

LIMIT = 8


@pytest.fixture(scope="module")
def examples():
    return list(cvbench.load("embedded", limit=LIMIT))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, examples) -> Path:
    """Two evaluations, a third of turned polarity, one sampled, and a training with three tests."""
    folder = tmp_path_factory.mktemp("runs")
    turned = list(cvbench.flip_polarity(examples))
    write(folder / "base", examples, always_a)
    write(folder / "better", examples, mute)
    write(folder / "better-ood", turned, right, ood=True)
    write(folder / "sampled", examples, lambda e: ["A", "B", e.answer, ""], num_samples=4)
    parts = {"limit": None, "eval_data": "embedded", "eval_limit": LIMIT, "data": "array/SAT"}
    write_training(folder / "train", [0.1, math.nan, 0.4, 0.6])
    write(folder / "train" / "trained", examples, right, **parts | {"evaluated": "trained"})
    shuffled = list(shuffle_images(examples, 0))
    write(folder / "train" / "shuffled", shuffled, always_a, **parts | {"evaluated": "shuffled"})
    return folder


@pytest.fixture(scope="module")
def found(runs) -> loading.Runs:
    return loading.load([runs])


@pytest.fixture(scope="module")
def explored(found) -> explorer.Explorer:
    return explorer.explore(found.tests)


def named(found: loading.Runs, name: str) -> loading.Test:
    return next(test for test in found.tests if test.name == name)


# ---- reading


def test_every_test_and_training_is_found_with_its_kind(found):
    kinds = {test.name: test.kind for test in found.tests}
    assert kinds == {
        "base": "greedy",
        "better": "greedy",
        "better-ood": "greedy, polarity-flipped",
        "sampled": "Pass@4",
        "train/trained": "greedy",
        "train/shuffled": "greedy, images shuffled",
    }
    config = {"arguments": {"evaluated": "base-shuffled-ood"}}  # the other tests of a study's training
    before = loading.Test(Path(), "base-shuffled-ood", config, {"num_samples": 1}, [])
    assert before.kind == "greedy, polarity-flipped, images shuffled"
    assert [training.name for training in found.trainings] == ["train"]
    assert named(found, "better-ood").arm == named(found, "better").arm


def test_an_unfinished_run_is_named_and_left_out(runs, tmp_path):
    shutil.copytree(runs / "base", tmp_path / "base")
    shutil.copytree(runs / "better", tmp_path / "half")
    (tmp_path / "half" / "summary.json").unlink()
    found = loading.load([tmp_path])
    assert [test.name for test in found.tests] == ["base"]
    assert len(found.unfinished) == 1 and "half" in found.unfinished[0]


def spoil_row(**changes):
    def spoil(folder: Path) -> None:
        file = folder / "predictions.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows[3] |= changes
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return spoil


def spoil_summary(change):
    def spoil(folder: Path) -> None:
        content = json.loads((folder / "summary.json").read_text())
        change(content)
        (folder / "summary.json").write_text(json.dumps(content))

    return spoil


def depth(accuracy: float):
    return lambda summary: summary["tasks"]["Depth"].update(accuracy=accuracy)


SPOILT = {
    "correct is a word": (spoil_row(correct="yes"), "row 3.*'correct'"),
    "no completions": (spoil_row(completions=[]), "row 3.*'completions'"),
    "empty prompt": (spoil_row(prompt=""), "row 3.*'prompt'"),
    "score is NaN": (spoil_row(score=math.nan), "row 3.*'score'"),
    "id twice": (spoil_row(id="cvbench-test-0-0"), "two rows of one id"),
    "answer turned": (lambda folder: spoil_row(correct=not _correct(folder))(folder), "not the summary"),
    "summary of others": (
        spoil_summary(depth(0.9)),
        "not the summary",
    ),
    "accuracy is NaN": (
        spoil_summary(depth(math.nan)),
        "not the summary",
    ),
    "summary without n": (spoil_summary(lambda s: s.pop("n")), "summary.json has no 'n'"),
    "summary cut off": (
        lambda folder: (folder / "summary.json").write_text("{"),
        "summary.json is damaged",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
}


def _correct(folder: Path) -> bool:
    return json.loads((folder / "predictions.jsonl").read_text().splitlines()[3])["correct"]


@pytest.mark.parametrize("name", SPOILT)
def test_what_does_not_fit_is_refused_in_one_line(name, runs, tmp_path):
    spoil, message = SPOILT[name]
    folder = Path(shutil.copytree(runs / "base", tmp_path / "run"))
    spoil(folder)
    with pytest.raises(UserError, match=message) as error:
        loading.load([folder])
    assert "\n" not in str(error.value)


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run there"):
        loading.load([tmp_path])
    with pytest.raises(UserError, match="no such folder"):
        loading.load([tmp_path / "none"])


def test_metrics_that_are_being_written_are_read_to_the_last_whole_line(tmp_path):
    folder = write_training(tmp_path / "run", [0.1, 0.2])
    file = folder / "metrics.jsonl"
    torn = file.read_text() + '{"step": 3, "rew'
    file.write_text(torn)
    assert [row["step"] for row in loading.load([folder]).trainings[0].rows] == [1, 2]
    assert file.read_text() == torn  # nothing of a running training is touched
    file.write_text('{"reward": 1}\n')
    with pytest.raises(UserError, match="line 1 has no 'step'"):
        loading.load([folder])


# ---- tables


def test_a_line_is_the_summary_in_percent_with_its_intervals(found):
    test = named(found, "base")
    (row,) = tables.rows([test])
    part = test.summary["tasks"]["Depth"]
    low, high = part["interval"]
    assert tables.cell(row.scores["Depth"]) == (
        f"{100 * part['accuracy']:.1f} <small>{100 * low:.1f} to {100 * high:.1f}</small>"
    )
    assert tables.cell(row.scores["Depth"]) in tables.html([test])


def test_published_figures_stand_below_the_measured(found):
    table = tables.html([named(found, "base")])
    for name, figures in published.PASS_AT_1.items():
        assert f"{name}, published" in table and f"<td>{figures[-1]:.1f}</td>" in table
    turned = tables.html([named(found, "better-ood")])
    assert f"<td>{published.POLARITY['SFT']['Distance'][1]:.1f}</td>" in turned
    assert "published</th>" not in tables.html([named(found, "train/shuffled")])


BESIDE = [  # benchmark, whether of the prompting study; a row, its column and its figure
    ("CV-Bench", True, "Llama-4-Scout, 4-shot split", "micro", "77.3"),
    ("CV-Bench", True, "Qwen2.5-VL-7B, scene graph", "Depth", "66.2"),
    ("SAT", True, "Llama-4-Scout, optical flow (val)", "official", "70.4"),
    ("SAT", False, "Llama-4-Scout, none (val)", "micro", "69.4"),
    ("VSR", True, "Llama-4-Scout, scene graph (val)", "micro", "78.1"),
    ("VSR", False, "PaliGemma 2 3B, random dev, first 1,000", "micro", "72.5"),
    ("CLEVR", True, "Qwen2.5-VL-7B, describe (CoGenT ValB)", "micro", "72.7"),
    ("CLEVR", False, "image, none", "micro", "47.05"),
    ("VSI-Bench", False, "vsGRPO-V 2B", "official", "35.4"),
    ("VSI-Bench", False, "vsGRPO-V 7B", "obj_appearance_order", "31.5"),
    ("VSI, in words", False, "2B + SFT", "room_size_estimation", "33.5"),
    ("Sparkle composite", False, "InternVL2-8B, trained", "path_5x5", "40.0"),
]


@pytest.mark.parametrize(("benchmark", "prompting", "row", "column", "figure"), BESIDE)
def test_every_benchmark_with_published_figures_stands_beside_them(benchmark, prompting, row, column, figure):
    _, rows = tables.published_figures(benchmark, "greedy", {prompting})
    assert rows[f"{row}, published"][column] == figure
    _, both = tables.published_figures(benchmark, "greedy", {True, False})
    assert both.items() >= rows.items()
    assert tables.published_figures(benchmark, "greedy, images shuffled", {prompting}) == ("", {})


def test_measured_columns_are_those_of_the_published_figures(tmp_path):
    """A run on VSR's and one on SAT's form: the published total stands in the column of the measured one."""
    for benchmark, made in (
        (vsr.BENCHMARK, series.vsr("test", 4)),
        (sat.BENCHMARK, sat_data.load_test("embedded", limit=2)),
    ):
        rule = benchmark.rules["strict"]
        records = [to_record(e, [e.answer], rule, rule.gold(e)) for e in made]
        run = Run(tmp_path / benchmark.title, {"data": "embedded", "seed": 0})
        run.add_predictions(records)
        run.write_summary(summarize(records, benchmark.aggregate, rule, benchmark.title))
    for test in loading.load([tmp_path]).tests:
        _, rows = tables.published_figures(test.benchmark, test.kind)
        assert rows and all(cells.keys() & tables.scores(test).keys() for cells in rows.values())


def test_seeds_of_one_way_are_taken_together_and_others_are_not(tmp_path, examples):
    says = (right, always_a, mute)
    for seed, say in enumerate(says):
        write(tmp_path / f"run-seed{seed}", examples, say, seed=seed)
    write(tmp_path / "run-seed3", examples, right, seed=3, rule="paper")
    rows = tables.rows(loading.load([tmp_path]).tests)
    assert [row.name for row in rows] == ["run (3 seeds)", "run-seed3"]
    scores = [{record["id"]: float(record["correct"]) for record in test.records} for test in rows[0].tests]
    asked = comparison.questions(rows[0].tests[0].records)
    assert rows[0].scores[tables.MEAN] == comparison.mean(scores, asked)
    assert rows[0].scores["Count"] == comparison.mean(scores, asked.of("Count"))


# ---- plots


class Shapes(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def drawing(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def test_a_dot_lies_where_its_accuracy_says(found):
    test = named(found, "better")
    svg, names, total = plots.by_task(tables.rows([test]))
    assert names == ["better"] and total == 1
    titles = {g.find("title").text: g.find("circle") for g in drawing(svg).iter("g")}
    dots = {title.split(", ")[1].split(":")[0]: float(dot.get("cx")) for title, dot in titles.items()}
    assert dots.keys() == {"Count", "Relation", "Depth", "Distance", "mean of tasks"}
    values = {task: part.value for task, part in metrics.by_task(test.records).items()}
    assert dots["Count"] < dots["mean of tasks"] < dots["Depth"] == dots["Relation"]
    whole = dots["Depth"] - dots["Count"]
    assert (dots["mean of tasks"] - dots["Count"]) / whole == pytest.approx(
        (sum(values.values()) / 4 - values["Count"]) / (values["Depth"] - values["Count"]), abs=1e-3
    )


def test_polarity_is_plotted_for_the_tasks_that_change_with_it(found):
    pairs = plots.polarity_pairs(found.tests)
    assert [(a.name, b.name) for a, b in pairs["CV-Bench"]] == [("better", "better-ood")]
    svg, _, _ = plots.by_polarity(pairs["CV-Bench"])
    titles = [g.find("title").text for g in drawing(svg).iter("g")]
    assert len(titles) == 4 and all("Depth" in title or "Distance" in title for title in titles)
    assert sum("flipped" in title for title in titles) == 2


def test_pass_at_k_is_drawn_from_the_unbiased_estimates(found):
    test = named(found, "sampled")
    svg, _, _ = plots.pass_at_k([test])
    titles = [g.find("title").text for g in drawing(svg).iter("g") if g.find("title") is not None]
    values = [test.summary["aggregates"][f"pass@{k} mean_of_tasks"]["value"] for k in (1, 2, 3, 4)]
    assert [float(re.search(r"([\d.]+) %", title)[1]) for title in titles] == [
        pytest.approx(100 * value, abs=0.06) for value in values
    ]


def test_a_step_without_a_number_leaves_a_gap_and_long_curves_are_thinned(found):
    svg, names, _ = plots.training_curves(found.trainings, "reward")
    curve = next(path.get("d") for path in drawing(svg).iter("path") if path.get("class") == "curve")
    assert names == ["train"] and curve.count("M") == 2 and curve.count("L") == 1
    points = plots.thin([(step, 2.0 * step) for step in range(1, 10_001)])
    assert len(points) <= plots.POINTS and all(y == pytest.approx(2 * x) for x, y in points)
    assert sum(y for _, y in points) / len(points) == pytest.approx(10_001, rel=0.01)


# ---- items


def test_items_hold_question_choices_pictures_and_every_answer(explored, examples):
    runs = {run["name"]: run["answers"] for run in explored.runs}
    first = {item["id"]: number for number, item in reversed([*enumerate(explored.items)])}
    for example in examples:
        number = first[example.id]
        item = explored.items[number]
        assert item["question"] == example.question and item["choices"] == list(example.choices)
        assert f"({chr(65 + item['gold_choice'])})" == example.answer
        assert len(item["images"]) == 1 and item["note"] == ""
        assert runs["base"][number][:3] == [int(example.answer == "(A)"), "A", ["A"]]
        if example.task == "Count":
            assert runs["better"][number][:3] == [0, None, ["<tag>&</script>"]]
    turned = [item for item in explored.items if "far away from" in item["prompt"]]
    assert len(turned) == 4 and all(item["images"] for item in turned)
    assert explored.missing == {}


def test_a_question_that_got_another_image_shows_which(explored, found):
    answers = next(run["answers"] for run in explored.runs if run["name"] == "train/shuffled")
    givers = {record["id"]: record["images_of"] for record in named(found, "train/shuffled").records}
    image_of = {item["id"]: item["images"] for item in explored.items}
    for number, (*_, images, note) in answers.items():
        item = explored.items[number]
        assert images == image_of[givers[item["id"]]] != item["images"]
        assert givers[item["id"]] in note


def test_pictures_are_kept_once_and_small(explored, examples):
    assert len(explored.images) == len({example.open_images()[0].tobytes() for example in examples})
    assert all(content[8:12] == b"WEBP" for content in explored.images)
    noise = Image.effect_noise((1600, 1200), 60)
    with Image.open(io.BytesIO(explorer.thumbnail(noise))) as small:
        assert small.size == (320, 240) and small.mode == "RGB"


def test_photographs_of_2600_items_stay_under_60_megabytes(real_data):
    files = sorted((real_data / "clevr" / "images").rglob("*.png"))[:6]
    sizes = [len(explorer.thumbnail(Image.open(file))) for file in files]
    assert 2600 * 4 / 3 * sum(sizes) / len(sizes) < 40e6  # in base64; texts and answers come on top


def test_items_whose_data_changed_or_are_gone_say_so(runs, tmp_path, examples):
    folder = Path(shutil.copytree(runs / "base", tmp_path / "moved"))
    config = json.loads((folder / "config.json").read_text())
    config["data"]["arguments"]["path"] = "gone/rows.parquet"
    (folder / "config.json").write_text(json.dumps(config))
    other = Path(shutil.copytree(runs / "base", tmp_path / "other"))
    spoil_row(prompt="What else?")(other)
    made = explorer.explore(loading.load([folder]).tests)
    assert all(not item["images"] and "not available here" in item["note"] for item in made.items)
    assert "gone/rows.parquet" in next(iter(made.missing))
    del config["data"]  # as runs before it was recorded
    (folder / "config.json").write_text(json.dumps(config))
    made = explorer.explore(loading.load([folder]).tests)
    assert [*made.missing.values()] == [LIMIT] and "does not record where its questions" in next(
        iter(made.missing)
    )
    made = explorer.explore(loading.load([other]).tests)
    assert [item["id"] for item in made.items if item["note"]] == [examples[3].id]
    assert "another question" in made.items[3]["note"] and made.items[3]["question"] == "What else?"


def answered(folder: Path, benchmark, data: DataSource, arguments: dict | None = None) -> loading.Test:
    """A run whose answers are all correct, as the report loads it."""
    rule, examples = benchmark.rules["strict"], load_rows(data)
    if benchmark is BASIC:
        examples = with_vocabulary(examples)
    run = Run(folder, {"seed": 0} | (arguments or {}), data=data)
    records = [to_record(e, [str(e.answer)], rule, rule.gold(e)) for e in examples]
    run.add_predictions(records)
    run.write_summary(summarize(records, benchmark.aggregate, rule, benchmark.title))
    return loading.load([folder]).tests[0]


def test_questions_of_every_kind_of_run_are_loaded_with_their_images(tmp_path):
    """Rooms of vsGRPO's test, Sparkle's rendered questions, two views of a scene, CLEVR with descriptions."""
    args = VSIArgs(eval_data="embedded", eval_limit=2, num_frames=2)
    made = SparkleArgs(form="embedded", eval_limit=3)
    two = study.source("sat", STRATEGIES["optical_flow"], "embedded", None, 2, None)
    rows = {"path": "embedded", "limit": 2, "axes": "camera", "images": True}
    tests = [
        answered(tmp_path / "vsi", WORDS, vsi.test_data(args, "think"), {"prompt": "think"}),
        answered(tmp_path / "made", BASIC, sparkle.test_data(made)),
        answered(tmp_path / "two", sat.BENCHMARK, two),
        answered(
            tmp_path / "free", CLEVR, DataSource("clevr", {"path": "embedded", "limit": 2, "form": "free"})
        ),
    ]
    explored = explorer.explore(tests)
    assert explored.missing == {}
    images = {test.benchmark: [] for test in tests}
    for item in explored.items:
        images[item["benchmark"]].append(len(item["images"]))
    assert images == {
        "VSI, in words": [2, 2],
        "Sparkle basic": [1, 1, 1],
        "SAT": [2, 2, 2, 2],
        "CLEVR": [1, 1],
    }
    again = answered(tmp_path / "v", WORDS, vsi.test_data(args, "vanilla"))
    other = answered(tmp_path / "sft", WORDS, vsi.test_data(args, "vanilla"), {"seed": 1})
    assert again.source == other.source != tests[0].source
    described = DataSource("clevr_described", rows | {"style": "ordered", "wording": "after"})
    assert [example.prompt for example in load_rows(described)][0].count("\n")


def test_the_hubs_videos_are_not_downloaded_for_a_report(runs):
    test = loading.load([runs / "base"]).tests[0]
    rows = DataSource("vsibench", {"path": "rows.jsonl", "num_frames": 4, "folder": None})
    with pytest.raises(UserError, match="not downloaded for a report"):
        replace(test, config={"data": rows.record()}).questions()


def test_an_answer_with_half_a_surrogate_pair_can_be_written(tmp_path, examples):
    write(tmp_path / "run", examples[:1], lambda _: ["A \ud83d"])
    report.main(report.Args([str(tmp_path / "run")], str(tmp_path / "page.html"), images=False))
    assert "A ?" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_same_question_of_two_benchmarks_is_two_items_of_the_page(runs, tmp_path):
    other = Path(shutil.copytree(runs / "base", tmp_path / "other"))
    summary = json.loads((other / "summary.json").read_text()) | {"benchmark": "Another"}
    (other / "summary.json").write_text(json.dumps(summary))
    tests = loading.load([runs / "base", other]).tests
    keys = [item["key"] for item in explorer.explore(tests, images=False).items]
    assert len(keys) == len(set(keys)) == 2 * LIMIT


def test_sat_rows_in_all_orders_with_two_images_are_found_again(tmp_path):
    rows = [
        {
            "image_bytes": [png((number, 90, 200)), png((200, 90, number))][: 1 + number % 2],
            "question": f"What moved in room {number}?",
            "answers": ["the chair, to the left", "nothing"],
            "question_type": "obj_movement",
            "correct_answer": "the chair, to the left",
        }
        for number in range(4)
    ]
    file = tmp_path / "SAT_test.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    given = {
        "split": "test",
        "limit": None,
        "answer_form": "natural",
        "max_images": 2,
        "circular": True,
        "seed": 0,
    }
    examples = list(sat_data.load_test(str(file), **given))
    rule = sat.BENCHMARK.rules["strict"]
    records = [to_record(e, [e.answer], rule, rule.gold(e)) for e in examples]
    data = DataSource("sat", {"path": str(file)} | given)
    run = Run(tmp_path / "run", {"data": str(file)} | given, data=data)
    run.add_predictions(records)
    run.write_summary(summarize(records, sat.BENCHMARK.aggregate, rule, "SAT"))
    made = explorer.explore(loading.load([tmp_path / "run"]).tests)
    assert len(made.items) == 8  # each question in both orders
    assert [len(item["images"]) for item in made.items] == [len(example.images) for example in examples]
    assert {len(item["images"]) for item in made.items} == {1, 2} and made.missing == {}
    assert all(item["choices"][item["gold_choice"]] == "the chair, to the left" for item in made.items)


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (60, 40), colour).save(file, "png")
    return file.getvalue()


# ---- the page


def test_the_page_is_one_file_that_asks_for_nothing_else(found, explored):
    html, _ = report.page(found, "Runs & more")
    tags = Shapes(html).found
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    outside = [a for _, a in tags if {"src", "href"} & a.keys() and not a.get("href", "").startswith("#")]
    assert outside == [] and not re.search(r"url\(|@import|https?://", html.split("<script>")[0])
    assert "<title>Runs &amp; more</title>" in html and "{{" not in re.sub(r"<script.*", "", html, flags=re.S)
    blocks = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert json.loads(blocks[0])["items"] == explored.items
    assert html.count('type="text/plain" id="image-') == len(explored.images)
    fields = [a["id"] for tag, a in tags if tag in ("select", "input")]
    labelled = re.findall(r'<label>[^<]+<(?:select|input) id="(\w+)"', html)
    assert sorted(fields) == sorted(labelled)
