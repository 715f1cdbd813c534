"""VSI-Bench: its rows from every place they may lie in, what its rules read, and its totals by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from spatialvlm.errors import UserError
from spatialvlm.evaluation.benchmark import to_record
from spatialvlm.evaluation.summary import summarize, table
from spatialvlm.example import Example
from spatialvlm.tasks.vsi import data as vsibench
from spatialvlm.tasks.vsi.scoring import DIRECTION, TAGGED, TASKS, VSIBENCH

TYPES = vsibench.CHOICE_TYPES + vsibench.NUMBER_TYPES


def row(id: int, kind: str = "object_counting", truth: str | None = None, **changed) -> dict:
    """A row with the hub's columns."""
    lettered = kind in vsibench.CHOICE_TYPES
    made = {"id": id, "dataset": "scannet", "scene_name": f"scene{id:04}_00", "question_type": kind}
    made |= {"question": f"Question {id}?", "ground_truth": truth or ("B" if lettered else "4")}
    return made | {"options": ["A. left", "B. right", "C. back"] if lettered else None} | changed


ROWS = [row(number, kind) for number, kind in enumerate(TYPES)]


def as_jsonl(folder: Path, data: list[dict]) -> Path:
    path = folder / "test.jsonl"
    path.write_text("\n".join(map(json.dumps, data)))
    return path


def as_json(folder: Path, data: list[dict]) -> Path:
    path = folder / "test.json"
    path.write_text(json.dumps(data))
    return path


def as_parquet(folder: Path, data: list[dict]) -> Path:
    datasets.Dataset.from_list(data).to_parquet(folder / "test.parquet")
    return folder / "test.parquet"


def as_folder(folder: Path, data: list[dict]) -> Path:
    return as_parquet(folder, data).parent


@pytest.mark.parametrize("written", [as_jsonl, as_json, as_parquet, as_folder])
def test_the_same_examples_from_every_place(tmp_path, written):
    examples = vsibench.load(written(tmp_path, ROWS))
    assert [example.task for example in examples] == list(TYPES)
    for number, example in enumerate(examples):
        assert example.id == f"vsibench-{number}" and example.question == f"Question {number}?"
        if example.task in vsibench.CHOICE_TYPES:
            assert (example.choices, example.answer) == (("left", "right", "back"), "B")
            assert example.prompt.splitlines()[2:6] == ["Options:", "A. left", "B. right", "C. back"]
        else:
            assert (example.choices, example.answer) == (None, "4")


def test_the_frames_to_come_cannot_be_looked_at(tmp_path):
    (example, *_) = vsibench.load(as_jsonl(tmp_path, ROWS))
    with pytest.raises(UserError, match="scannet/scene0000_00.mp4 does not exist"):
        example.open_images()


def test_limit_keeps_every_type(tmp_path):
    path = as_jsonl(tmp_path, [row(number, TYPES[number // 4]) for number in range(4 * len(TYPES))])
    assert [example.task for example in vsibench.load(path, limit=len(TYPES))] == list(TYPES)
    assert len(vsibench.load(path, limit=1000)) == 4 * len(TYPES)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"id": None}, "row 1 has no 'id'"),
        ({"id": 1.5}, "row 1: 'id' must be"),
        ({"id": 0}, "row 1 has the id 0 of .*row 0"),
        ({"question": ""}, "row 1 has no 'question'"),
        ({"question": " "}, "row 1: 'question' must be a text"),
        ({"question": 3}, "row 1: 'question' must be a text"),
        ({"question_type": "colour"}, "row 1: 'question_type' 'colour' is none of"),
        ({"question_type": math.nan}, "row 1 has no 'question_type'"),
        ({"scene_name": None}, "row 1 has no 'scene_name'"),
        ({"ground_truth": None}, "row 1 has no 'ground_truth'"),
        ({"ground_truth": "D"}, "row 1: 'ground_truth' 'D' is not the letter of one of its 3 choices"),
        ({"ground_truth": "right"}, "not the letter"),
        ({"options": None}, "row 1: 'options' must be a list of two or more, not None"),
        ({"options": math.nan}, "row 1: 'options' must be a list"),
        ({"options": ["A. left"]}, "row 1: 'options' must be a list of two or more"),
        ({"options": ["left", "right"]}, "row 1: option 'left' must begin with 'A. '"),
        ({"options": ["A. left", "B. "]}, "row 1: option 'B. ' must begin with 'B. ' and have a text"),
        ({"question_type": "object_counting"}, "row 1: object_counting asks for a number, but 'options' are"),
    ]
    + [
        ({"question_type": "room_size_estimation", "options": None, "ground_truth": truth}, message)
        for truth, message in [
            ("many", "row 1: 'ground_truth' must be a number above 0, not 'many'"),
            ("B", "not 'B'"),
            ("0", "not '0'"),
            ("1_0", "not '1_0'"),
            (-3, "not -3"),
            ("nan", "not 'nan'"),
            (math.nan, "row 1 has no 'ground_truth'"),
            (10**400, "must be a number above 0, not 1000"),
            (math.inf, "not inf"),
            ("inf", "not 'inf'"),
            (True, "not True"),
            (["3"], "not \\['3'\\]"),
        ]
    ],
)
def test_a_row_that_is_not_whole_is_named(tmp_path, change, message):
    path = as_jsonl(tmp_path, [row(0, "route_planning"), row(1, "route_planning") | change])
    with pytest.raises(UserError, match=message):
        vsibench.load(path)


@pytest.mark.parametrize("column", [*vsibench.COLUMNS, "options"])
def test_a_missing_column_is_named(tmp_path, column):
    path = as_jsonl(tmp_path, [{name: value for name, value in row(0).items() if name != column}])
    with pytest.raises(UserError, match=f"row 0 has no (column )?'{column}'"):
        vsibench.load(path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="gone"):
        vsibench.load(tmp_path / "gone")
    with pytest.raises(UserError, match="no VSI-Bench row"):
        vsibench.load(as_json(tmp_path, []))
    with pytest.raises(UserError, match="--limit must be at least 1"):
        vsibench.load(as_jsonl(tmp_path, ROWS), limit=0)


# ---- VSI-Bench-Debiased


def ids(examples) -> list[str]:
    return [example.id for example in examples]


def test_subsets_by_the_column_of_newer_files(tmp_path):
    data = [each | {"pruned": number % 3 == 0} for number, each in enumerate(ROWS)]
    for written in (as_jsonl, as_parquet):
        path = written(tmp_path, data)
        full, debiased = ids(vsibench.load(path)), ids(vsibench.load(path, subset="debiased"))
        pruned = ids(vsibench.load(path, subset="pruned"))
        assert pruned == full[::3] and sorted(debiased + pruned) == sorted(full) and len(debiased) == 6
    assert ids(vsibench.load(path, subset="debiased", limit=3)) == debiased[::2]  # of the subset, evenly


def test_subsets_by_the_benchmarks_list_of_ids(tmp_path):
    path = as_jsonl(tmp_path, ROWS)
    with pytest.raises(UserError, match="no column 'pruned' and .*pruned_ids.txt is not there.*--pruned_ids"):
        vsibench.load(path, subset="debiased")
    (tmp_path / "pruned_ids.txt").write_text("1\n 4\n\n77\n")  # 77: of another part of the benchmark
    assert ids(vsibench.load(path, subset="pruned")) == ["vsibench-1", "vsibench-4"]
    assert len(vsibench.load(path, subset="debiased")) == len(ROWS) - 2
    (tmp_path / "other.txt").write_text("2")
    given = {"subset": "pruned", "pruned_ids": tmp_path / "other.txt"}
    assert ids(vsibench.load(path, **given)) == ["vsibench-2"]
    (tmp_path / "other.txt").write_text("77")
    with pytest.raises(UserError, match="other.txt names no id that .*test.jsonl has"):
        vsibench.load(path, **given)
    with pytest.raises(UserError, match="--pruned_ids .*gone.txt is no file"):
        vsibench.load(path, subset="pruned", pruned_ids=tmp_path / "gone.txt")


def test_pruned_ids_are_read_as_editors_write_them(tmp_path, capsys):
    path = as_jsonl(tmp_path, ROWS)
    lists = (b'["1",\n "4"]\n', b"[1, 4]", b"[\r\n  1.0,\r\n  4\r\n]", b"1.0\n4.0\n", b"[1, 4")
    for content in ("\ufeff1\n4\n".encode(), "1\r\n4".encode("utf-16"), b"1\r4\r", *lists[:-1]):
        (tmp_path / "pruned_ids.txt").write_bytes(content)
        assert ids(vsibench.load(path, subset="pruned")) == ["vsibench-1", "vsibench-4"]
    assert not capsys.readouterr().err
    (tmp_path / "pruned_ids.txt").write_bytes(lists[-1])
    with pytest.raises(UserError, match=r"pruned_ids.txt line 1: '\[1, 4' is no id"):
        vsibench.load(path, subset="pruned")
    (tmp_path / "pruned_ids.txt").write_text("1\n77\n")
    vsibench.load(path, subset="pruned")
    assert "1 of the 2 ids" in (said := capsys.readouterr().err) and "pruned_ids.txt line 2" in said
    (tmp_path / "pruned_ids.txt").write_text("1\n4 # doubtful\n")
    with pytest.raises(UserError, match="pruned_ids.txt line 2: '4 # doubtful' is no id"):
        vsibench.load(path, subset="pruned")


@pytest.mark.parametrize("value", [None, "maybe", 2, math.nan, [True]])
def test_a_row_that_does_not_say_whether_it_is_pruned(tmp_path, value):
    path = as_jsonl(tmp_path, [row(0) | {"pruned": False}, row(1) | {"pruned": value}])
    with pytest.raises(UserError, match="row 1(: 'pruned' must be yes or no| has no 'pruned')"):
        vsibench.load(path, subset="debiased")


def test_a_subset_without_rows_is_named(tmp_path):
    with pytest.raises(UserError, match="has no VSI-Bench row of the subset pruned"):
        vsibench.load(as_jsonl(tmp_path, [row(0) | {"pruned": False}]), subset="pruned")


# ---- prompts and answers in tags


def test_prompts_change_the_last_line_alone(tmp_path):
    path = as_jsonl(tmp_path, [row(0), row(1, "route_planning")])
    prompts = {mode: [each.prompt for each in vsibench.load(path, mode=mode)] for mode in vsibench.MODES}
    assert prompts["vanilla"][0].endswith("\nPlease answer the question using a single word or phrase.")
    assert prompts["vanilla"][1].endswith(
        "\nAnswer with the option's letter from the given choices directly."
    )
    assert all("\nLet's think step by step and then " in prompt for prompt in prompts["think"])
    assert all("\nPlease observe the video first and then " in prompt for prompt in prompts["observe"])
    for made in zip(*prompts.values(), strict=True):
        assert len({prompt.rpartition("\n")[0] for prompt in made}) == 1 and len(set(made)) == 3


@pytest.mark.parametrize(
    "text, points",
    [
        ("<think>There is 1, no, 2.</think><answer>4</answer>", 1),
        ("<think>4</think><answer>9</answer>", 0),
        ("<answer>9</answer> wait: < answer > 4 < / answer >", 1),
        ("<think>so</think>\n<answer>4", 1),  # cut off
        ("4", 1),
        ("<answer></answer>", 0),
    ],
)
def test_every_rule_reads_the_last_answer_tag(tmp_path, text, points):
    asked = example(tmp_path, "object_counting")
    for rule in TAGGED.rules.values():
        assert rule.score_of(rule.parse(text, asked), rule.gold(asked)) == points, rule.name
        assert "<answer>" in rule.source
    lettered = example(tmp_path, "route_planning")
    for rule in TAGGED.rules.values():
        read = rule.parse("<think>A or C</think> <answer> B. right </answer>", lettered)
        assert rule.score_of(read, rule.gold(lettered)) == 1, rule.name
    assert VSIBENCH.rules["official"].parse("<answer>4</answer>", asked) is None


@pytest.mark.parametrize(
    "text, official, strict",
    [
        ("front-left", 1, 1),
        ("Front-Left.", 1, 1),
        ("to my front-left", 0, 1),
        ("left", 0, 0),
        ("front-right", 0, 0),
        ("", 0, 0),
    ],
)
def test_words_where_there_are_no_options(text, official, strict):
    words = ("front-left", "front-right", "back-left", "back-right")
    made = Example("r-0", (Path("x"),), "Where?", "front-left", "object_rel_direction_hard")
    asked = replace(made, meta={"vocabulary": words})
    for name, points in {"official": official, "lmms_eval": official, "strict": strict}.items():
        rule = VSIBENCH.rules[name]
        assert rule.score_of(rule.parse(text, asked), rule.gold(asked)) == points, name


def example(tmp_path: Path, kind: str, truth: str | None = None):
    return vsibench.load(as_jsonl(tmp_path, [row(0, kind, truth)]))[0]


@pytest.mark.parametrize(
    "text, official, lmms_eval, strict",
    [  # scores against 4
        ("4", 1, 1, 1),
        ("4.", 1, 1, 1),
        ("4 chairs", 1, 1, 1),
        ("4\n", 1, 1, 1),
        ("four", 0, 1, 1),
        ("4m", 0, 1, 1),
        ("about 4", 0, 1, 1),
        (" 4", 0, 1, 1),
        ("**4**", 0, 1, 1),
        ("3 to 4", 0.6, 0.6, 0),  # an error of a quarter, which 0.50, 0.55, 0.60, 0.65, 0.70 and 0.75 allow
        ("The 2 tables have 4 chairs in total: 4", 0, 0.1, 1),
        ("<answer>4</answer>", 0, 1, 1),
        ("nan", 0, 0, 0),
        ("inf", 0, 0, 0),
        ("1e400", 0, 0, 0),
        ("", 0, 0, 0),
        ("twenty-one", 0, 0, 0),
    ],
)
def test_numbers_by_every_rule(tmp_path, text, official, lmms_eval, strict):
    asked = example(tmp_path, "object_counting")
    expected = {"official": official, "paper": official, "lmms_eval": lmms_eval, "strict": strict}
    for name, points in expected.items():
        rule = VSIBENCH.rules[name]
        assert rule.score_of(rule.parse(text, asked), rule.gold(asked)) == pytest.approx(points), name


@pytest.mark.parametrize(
    "text, official, strict",
    [  # points where B is right
        ("B", 1, 1),
        ("b.", 1, 1),
        ("B. right", 1, 1),
        ("B...", 1, 1),
        ("B\n", 1, 1),
        ("(B)", 0, 1),
        ("B) right", 0, 1),
        ("B, right", 0, 1),
        ("B\nright", 0, 1),
        (" B", 0, 1),
        ("The answer is B", 0, 1),
        ("right", 0, 1),
        ("<answer>B</answer>", 0, 1),
        ("B or C", 1, 0),
        ("A", 0, 0),
        ("", 0, 0),
    ],
)
def test_letters_by_every_rule(tmp_path, text, official, strict):
    asked = example(tmp_path, "object_rel_direction_medium")
    for name, points in {"official": official, "lmms_eval": official, "strict": strict}.items():
        rule = VSIBENCH.rules[name]
        assert rule.score_of(rule.parse(text, asked), rule.gold(asked)) == points, name


def records(folder: Path, rule: str, answers: dict[str, list[tuple[str, str]]]) -> list[dict]:
    """Records of one question per answer, `{type: [(gold, text), ...]}`."""
    asked = [(kind, *pair) for kind, pairs in answers.items() for pair in pairs]
    data = [row(number, kind, truth) for number, (kind, truth, _) in enumerate(asked)]
    examples, how = vsibench.load(as_jsonl(folder, data)), VSIBENCH.rules[rule]
    return [
        to_record(made, [text], how, how.gold(made))
        for made, (_, _, text) in zip(examples, asked, strict=True)
    ]


def test_totals_by_hand(tmp_path):
    made = records(
        tmp_path,
        "official",
        {
            "object_counting": [("4", "4"), ("4", "3"), ("4", "")],  # 1, 0.6, 0
            "object_abs_distance": [("2.0", "2")],
            "object_size_estimation": [("100", "120")],  # an error of 0.2 is 0.6 in floats
            "room_size_estimation": [("20", "41")],
            "object_rel_distance": [("A", "A"), ("A", "B")],
            "object_rel_direction_easy": [("A", "A"), ("B", "B"), ("A", "B"), ("B", "B")],
            "object_rel_direction_medium": [("C", "C")],
            "object_rel_direction_hard": [("A", "B"), ("A", "C")],
            "route_planning": [("B", "B.")],
            "obj_appearance_order": [("B", "(B)")],
        },
    )
    totals = VSIBENCH.aggregate(made)
    direction = (3 / 4 + 1 + 0) / 3
    expected = [1.6 / 3, 1, 0.6, 0, 1 / 2, direction, 1, 0]
    assert [totals[name].value for name in TASKS] == pytest.approx(expected)
    assert totals["official"].value == pytest.approx(sum(expected) / 8)
    assert totals["trained"].value == pytest.approx(sum(expected[:6]) / 6)
    assert totals["held_out"].value == pytest.approx(sum(expected[6:]) / 2)
    assert totals["micro"].value == pytest.approx((1.6 + 1 + 0.6 + 0 + 1 + 3 + 1 + 0 + 1 + 0) / 17)
    assert all(low <= found.value <= high for found in totals.values() for low, high in [found.interval])

    summary = summarize(made, VSIBENCH.aggregate, VSIBENCH.rules["official"], VSIBENCH.title)
    assert summary["n"] == 17 and summary["unread"] == 1 and DIRECTION in table(summary)


def test_no_official_total_where_a_part_is_missing(tmp_path):
    made = records(
        tmp_path, "official", {"object_rel_direction_easy": [("A", "A")], "route_planning": [("A", "A")]}
    )
    assert VSIBENCH.aggregate(made).keys() == {"route_planning", "micro"}


def test_every_real_row_is_read_and_its_gold_answer_scores_1(real_data):
    path = real_data / "vsi" / "vsi_bench_scannet.jsonl"
    examples = VSIBENCH.load(path)
    assert len(examples) == len(path.read_text().splitlines()) == 2071
    for asked in examples:
        for rule in VSIBENCH.rules.values():
            assert rule.score_of(rule.parse(asked.answer, asked), rule.gold(asked)) == 1, (
                rule.name,
                asked.id,
            )
            if asked.choices:
                text = asked.choices["ABCD".index(asked.answer)]
                lettered = rule.parse(f"{asked.answer}. {text}", asked)
                assert lettered == asked.answer, (rule.name, asked.id)


# ---- prompts: published sentences word for word, and the tags that are rewarded

QUESTION = "How many chair(s) are in this room?"


def test_published_sentences():
    lines = vsibench.training_prompt(QUESTION, "vanilla").splitlines()
    assert lines == [QUESTION, "Please provide the short answer with one or two words or a number."]
    think = vsibench.evaluation_request("think")
    assert think == "Let's think step by step and then answer the question using a single word or phrase."
    observe = vsibench.evaluation_request("observe")
    assert observe.startswith("Please observe the video first and then answer ")
    vanilla = vsibench.prompt(QUESTION)
    assert vanilla.splitlines() == [
        vsibench.FRAMES,
        QUESTION,
        "Please answer the question using a single word or phrase.",
    ]


def test_lettered_options_are_asked_for_as_vsibench_does():
    before = f"{vsibench.FRAMES}\nWhich?\nOptions:\nA. sink\nB. sofa"
    prompts = [vsibench.prompt("Which?", ("sink", "sofa"), mode) for mode in vsibench.MODES]
    assert prompts[0] == f"{before}\nAnswer with the option's letter from the given choices directly."
    assert all(prompt.startswith(before) and "option's letter" in prompt for prompt in prompts)
    assert len(set(prompts)) == 3


@pytest.mark.parametrize("mode", vsibench.MODES)
def test_training_names_the_tags_that_are_rewarded(mode):
    request = vsibench.training_prompt(QUESTION, mode).removeprefix(f"{QUESTION}\n")
    tags = {tag for tag in ("think", "observe", "answer") if f"<{tag}>" in request and f"</{tag}>" in request}
    assert tags == (set() if mode == "vanilla" else {mode, "answer"})
    assert "number" in request


def test_another_mode_is_refused():
    with pytest.raises(KeyError):
        vsibench.training_prompt(QUESTION, "dream")
