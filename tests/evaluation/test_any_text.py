"""Any text through every rule, reward, strategy and total: random, hostile and huge ones.

TEXTS=50000 pytest tests/evaluation/test_any_text.py    # as many, and 1 MB each; few, short ones by default

Where a text raises, hypothesis shows the smallest one like it; the same texts come in every run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import cache
from random import Random

import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import Benchmark, Rule, to_record
from spatialvlm.evaluation.summary import summarize, table
from spatialvlm.example import Example
from spatialvlm.prompting import graph, program, study
from spatialvlm.prompting.strategies import STRATEGIES, count_misaligned, count_shifts
from spatialvlm.prompting.strategy import Aids, Dialogue, Exemplar, Reply
from spatialvlm.tasks import registry
from spatialvlm.tasks.sat.reward import accuracy as sat_reward
from spatialvlm.tasks.sparkle.reward import basic as sparkle_reward
from spatialvlm.tasks.sparkle.scoring import BASIC
from spatialvlm.tasks.vsi import reward as vsi_reward
from spatialvlm.tasks.vsi.scoring import TAGGED

TEXTS = int(os.environ.get("TEXTS", "400"))
LARGE = "TEXTS" in os.environ
IMAGE = tiny.image(0)
COUNTS, YES_NO = tuple(map(str, range(11))), ("yes", "no")

# ---- a question of each kind, for every rule of every benchmark

# name -> (task, question, answer, choices, meta)
ASKED = {
    "cvbench": [
        ("Count", "How many?", "(B)", ("3", "2", "1", "0"), {"source": "COCO"}),
        ("Relation", "Where?", "(A)", ("left", "right"), {"source": "ADE20K"}),
        ("Depth", "Which is closer?", "(C)", ("red chair", "chair", "lamp"), {"source": "Omni3D"}),
    ],
    "clevr": [
        ("exist", "Are there any?", "yes", None, {"vocabulary": YES_NO}),
        ("count", "How many?", "3", None, {"vocabulary": COUNTS}),
        ("query_color", "Which colour?", "red", None, {"vocabulary": ("red", "gray", "blue")}),
    ],
    "superclevr": [
        ("count", "How many?", "3", None, {"vocabulary": COUNTS}),
        ("query_shape", "Which?", "road bike", None, {"vocabulary": ("road bike", "bike", "car")}),
    ],
    "counting": [("CLEVR", "How many?", "3", None, {"vocabulary": COUNTS, "source": "CLEVR"})],
    "sat": [
        ("obj_movement", "Is the camera moving left?", "left", ("left", "right"), {"cluster": "1"}),
        ("obj_movement", "Is it there?", "yes", YES_NO, {"cluster": "1"}),
        ("goal_aim", "Which object is closer?", "night stand", ("night stand", "lamp"), {"cluster": "2"}),
        ("pers", "Considering the relative positions?", "right", ("right", "left", "up"), {"cluster": "3"}),
    ],
    "vsr": [("Projective", "The cat is on the mat. Yes or no?", "no", None, {"vocabulary": YES_NO})],
    "whatsup": [
        ("rendered", "Which?", "(A)", ("a cup left of a dog", "right", "on", "under"), {"cluster": "1"})
    ],
    "vsibench": [
        ("object_counting", "How many?", "3", None, {}),
        ("object_abs_distance", "How far?", "2.5", None, {}),
        ("object_rel_distance", "Which?", "B", ("chair", "table", "tv", "sofa"), {}),
        ("object_rel_direction_hard", "Where?", "left", None, {"vocabulary": ("left", "back-left")}),
    ],
}


@cache
def asked(name: str) -> tuple[Example, ...]:
    if name.startswith("sparkle"):  # they have too much of a world to write out
        of_kind = {}
        for each in registry.benchmark(name).load("embedded", limit=40):
            of_kind.setdefault((each.meta["answer_type"], bool(each.meta["options"])), each)
        return tuple(of_kind.values())
    return tuple(
        Example(f"{name}-{n}", (IMAGE,), question, answer, task, choices, meta=meta)
        for n, (task, question, answer, choices, meta) in enumerate(ASKED[name])
    )


def rules(name: str) -> Iterator[tuple[Benchmark, Rule]]:
    benchmarks = [registry.benchmark(name), *([TAGGED] if name == "vsibench" else [])]
    return ((each, rule) for each in benchmarks for rule in each.rules.values())


# ---- texts

NINES = "9" * 5000
PIECES = [*"ABCDEQYN0123456789.,:;!?()[]{}<>/\\|'\"`*#=-+_%$&~^ \n\t"]
PIECES += [*"\0\x1c\x85\u2028²½৩٣Ⅳ四ſKİé🙂", "\ud800", "\udcff"]
PIECES += ["<answer>", "</answer>", "< answer >", "<think>", "</think>", "<observe>", "</observe>"]
PIECES += ["◁think▷", "\\boxed{", "\\frac{1}{2}", "```json\n", "```", "<code>", '{"answer": "', '"}']
PIECES += ['{"objects": [', "[[", NINES, NINES + "/" + NINES, "9" * 400 + "/" + "9" * 399, NINES + "m80"]
PIECES += ["√" + "9" * 400, "1e400", "-1e400", "10^400", "10^-400", "inf", "nan", "-0", "1_000", "0x10"]
PIECES += ["1,000", "1/0", "1 . 5", "3.5 m", "one ", "twenty-one", "hundred " * 200, "thousand "]
PIECES += ["a million", "three quarters", "none", "and ", "<|im_end|>", "yes", "no", "not ", "n't ", "true"]
PIECES += ["left", "right", "above", "the red one", "road bike", "night stand", "The answer is "]
PIECES += ["Answer: ", "Confidence: ", "so ", "wait, ", "or ", "is closer", "moving ", "is located to"]
PIECES += ["N1", "N2", " -> ", "node 3", "(3.4, 7)", "N1 -> N2 | optimal", " | valid, . times the shortest"]
PIECES += ["###", "1.", "Error code: 429", "I cannot see any image.", "###Assistant:", "(highlighted by"]
PIECES += ["###Human:"]
CHARACTERS = st.characters(exclude_categories=())  # also lone surrogates, which JSON files can hold
HOSTILE = st.lists(st.sampled_from(PIECES) | st.text(CHARACTERS, max_size=3), max_size=12).map("".join)
TEXT = (
    st.text(CHARACTERS, max_size=60)
    | HOSTILE
    | st.builds(lambda text, times: text[:200] * times, HOSTILE, st.integers(2, 50))
)


def any_of(options: str) -> st.SearchStrategy[str]:
    """One of some texts, written with bars between them."""
    return st.sampled_from(options.split("|"))


def texts(number: int) -> settings:
    """As many examples, the same in every run, and none kept on disk."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(
        max_examples=max(number, 1),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=checks,
    )


# ---- rules and totals


def checked(rule: Rule, question: Example, *texts: str) -> dict:
    """The record of some texts, once everything that holds for any record holds for it."""
    record = to_record(question, list(texts), rule, rule.gold(question))
    json.dumps(record, allow_nan=False)
    for parsed in record["parsed"] if len(texts) > 1 else [record["parsed"]]:
        assert type(parsed) in (str, int, float, type(None))
        if rule.name == "strict":
            assert_allowed(parsed, question)
    assert type(record["correct"]) is bool
    scores = record.get("scores", [0.0])
    assert all(type(score) is float and 0 <= score <= 1 for score in scores)
    assert max(scores) == record.get("score", 0)
    return record


def assert_allowed(parsed, question: Example) -> None:
    """A strict answer is one that the question can have."""
    kind, vocabulary = question.meta.get("answer_type"), question.meta.get("vocabulary", ())
    if parsed is None or kind in ("label", "order", "path", "tour"):  # unknown nodes are kept, and are wrong
        return
    if question.choices:
        assert parsed in "ABCDEF"[: len(question.choices)]
    elif vocabulary and not all(map(str.isdecimal, vocabulary)):
        assert parsed in vocabulary
    elif kind != "coordinates":
        assert isinstance(parsed, int | float)


@pytest.mark.parametrize("name", registry.BENCHMARKS)
@texts(TEXTS // len(registry.BENCHMARKS))
@given(TEXT)
def test_no_rule_raises(name, text):
    for _, rule in rules(name):
        for question in asked(name):
            assert checked(rule, question, text)["parsed"] == rule.parse(text, question)


@pytest.mark.parametrize("name", registry.BENCHMARKS)
def test_no_rule_raises_on_a_piece_alone(name):
    for _, rule in rules(name):
        for question in asked(name):
            for piece in PIECES:
                checked(rule, question, piece, f"<answer>{piece}</answer>", f"1{piece}")


@pytest.mark.parametrize("name", registry.BENCHMARKS)
@texts(TEXTS // 60)
@given(st.data(), st.integers(1, 2))
def test_no_total_raises_and_all_add_up(name, data, samples):
    questions = asked(name)
    text = st.sampled_from([*"Y3", "", "<answer>b</answer>", "<answer>2</answer>"]) | st.sampled_from(PIECES)
    several = st.tuples(*[text | st.just(each.answer) for each in questions for _ in range(samples)])
    for benchmark, rule in rules(name):
        drawn = iter(data.draw(several))
        made = [checked(rule, each, *(next(drawn) for _ in range(samples))) for each in questions]
        summary = summarize(made, benchmark.aggregate, rule, benchmark.title)
        assert table(summary) and json.dumps(summary, allow_nan=False)
        parts = summary["tasks"].values()
        assert summary["n"] == len(made) == sum(part["n"] for part in parts)
        parsed = [each["parsed"] for each in made]
        assert summary["unread"] == sum(each.count(None) for each in (parsed if samples > 1 else [parsed]))
        right = sum(each.get("score", float(each["correct"])) for each in made)
        assert sum(part["n"] * part["accuracy"] for part in parts) == pytest.approx(right)
        for part in (*parts, *(each for name, each in summary["aggregates"].items() if "ratio" not in name)):
            low, high = part["interval"]
            value = part.get("value", part.get("accuracy"))
            assert -1e-9 <= low <= value + 1e-9 and value - 1e-9 <= high <= 1 + 1e-9
        for difference in metrics.compare(made, made).values():
            assert difference.value == 0


# ---- refusals

CANNOT = st.builds(
    "{}{} {}{}".format,
    any_of("|I'm sorry, but |Sorry, |Unfortunately, |I apologize, but |As an AI model, "),
    any_of("I cannot|I can't|I am unable to|I'm not able to|it is impossible to|it is not possible to"),
    any_of(
        "see the image|view images|determine the answer|answer this question|tell from this image"
        "|help with that|process the 2 images|count the objects in the image|say which one is right"
    ),
    any_of(".||. Please upload the image.| because no image was provided.|. Is there one?"),
)
ERROR = st.builds(
    str.format,
    any_of(
        "Error code: {} - rate limit|Error {}|HTTP {} Bad Gateway|Request timed out after {} seconds"
        "|This model's maximum context length is {} tokens.|Rate limit reached. Please try again in {}s."
        "|CUDA out of memory. Tried to allocate {} MiB|Internal server error (status code: {})"
        "|Your request was rejected (error {}).|Sorry, I can't help with that. Error {}."
    ),
    st.integers(1, 5000),
)
DOUBT = any_of(
    "I don't know.|I'm not sure.|It is unclear.|It cannot be determined.|No answer.|No image was provided."
    "|There is no image.|Unable to tell|I have no idea.|Yes, I can help with that! Please upload the image."
)
FRAMES = any_of("{}|<answer>{}</answer>|Answer: {}|**{}**|<think>B? 3? Yes.</think>{}|\\boxed{{{}}}")
REFUSAL = st.builds(str.format, FRAMES, CANNOT | ERROR | DOUBT)


@texts(TEXTS // 6)
@given(REFUSAL)
def test_no_refusal_is_an_answer(text):
    for name in registry.BENCHMARKS:
        for question in asked(name):
            assert registry.benchmark(name).rules["strict"].parse(text, question) is None, question.task


# ---- rewards


@texts(TEXTS // 5)
@given(TEXT)
def test_no_reward_raises(text):
    assert sat_reward(text, "left") in (-0.2, 0.0, 1.0)
    for question in asked("sparkle"):
        earned = sparkle_reward(text, question)
        assert earned == -0.2 or 0 <= earned <= 1
        assert earned < 1 or checked(BASIC.rules["strict"], question, text)["correct"]
    for mode in ("vanilla", "think", "observe"):
        assert all(0 <= value <= 1 for value in vsi_reward.habits([text], mode).values())
        for question in asked("vsibench"):
            if not question.choices:
                for numbers in ("relative", "mra"):
                    assert 0 <= vsi_reward.reward(text, question, mode, numbers) <= 1 + (mode != "vanilla")


# ---- replies in a prompting study

AIDS = Aids(
    (Exemplar(Example("w", (IMAGE,), "Where?", "left", "t"), '{"objects": []}'),), depth=lambda _: IMAGE
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, "o1", "cube", -1, 0, 1]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["objects", "places", "id", "at", "center", "shift", "confidence"]), inner
        )
    ),
    max_leaves=20,
)
GRAPH = JSON.map(
    lambda value: json.dumps({"objects": [value, {"id": value, "center": value}], "places": value})
)
NESTED = st.builds(
    lambda opened, depth: opened * depth, st.sampled_from(["[", '{"a":', "[["]), st.integers(1, 5000)
)
CODE = st.lists(
    st.sampled_from("0123456789abx()[]{}.,:=+-*/%<>'\"\n ")
    | st.sampled_from(sorted(program.FUNCTIONS)).map("{}(".format)
    | any_of(
        "**|//|==|if |else |for o in objects|not |objects|graph|o['id']|lambda: |1e400|float('nan')|\0|\ud800"
    )
    | st.just(NINES[:3000]),
    max_size=15,
).map("".join)
REPLY = TEXT | GRAPH | GRAPH.map("```json\n{}\n```".format) | NESTED | CODE.map("```\n{}\n```".format)


@texts(TEXTS // 5)
@given(st.sampled_from(sorted(STRATEGIES)), st.lists(REPLY, min_size=2, max_size=2))
def test_no_reply_ends_a_study(name, replies):
    chosen, left = STRATEGIES[name], list(replies)
    question = Example("q", (IMAGE,) * (chosen.images or 1), "How many?", "(B)", "Count", ("1", "2"))
    conversation = chosen.converse(question, AIDS)
    next(conversation)
    try:
        while True:
            conversation.send(left.pop(0))
    except StopIteration as end:
        dialogue = Dialogue(end.value, tuple(Reply(reply, "stop", 1, 1) for reply in replies))
    benchmark = registry.benchmark("cvbench")
    record = checked(benchmark.rules["official"], question, dialogue.outcome.text)
    record |= study.dialogue_entries(chosen, dialogue)
    json.dumps(record, allow_nan=False)
    counted = study.counts(chosen, 1, [record, record])
    assert study.counts_text(counted) and json.dumps(counted, allow_nan=False)


@texts(TEXTS // 5)
@given(CODE, GRAPH | NESTED)
def test_no_program_or_graph_raises(source, text):
    found = graph.extract(text)
    assert sum(count_shifts(found).values()) == len(graph.objects(found))
    assert (count_misaligned(found) is None) == found.broken
    result = program.run(source, found.value or {})
    assert (result.status == "ran") or not program.to_answer(result.value)


# ---- huge texts

PHRASES = [*PIECES, "\u00a0", "\u3000"]
PHRASES += ["\\boxed", "^{", "{,}", "a\n", "\n\n", "< ", "</ ", "<answer>< ", "```\n", "1 . ", "a hundred "]
PHRASES += ["twenty ", "N1 and ", "up to ", "above and to the ", "(A) ", "1) ", "A. ", "10^", "- ", "no. "]
PHRASES += ["Q: ", "1,000,", "00 "]


def readers() -> dict[str, Callable[[str], object]]:
    """All that reads a model's text, by name."""

    def scored(rule: Rule, question: Example) -> Callable[[str], object]:
        gold = rule.gold(question)
        return lambda text: rule.score_of(rule.parse(text, question), gold)

    made = {
        f"{name} {benchmark.title} {rule} {question.task}": scored(rule, question)
        for name in registry.BENCHMARKS
        for benchmark, rule in rules(name)
        for question in asked(name)
    }
    made |= {
        f"reward of {each.task}": lambda text, each=each: sparkle_reward(text, each)
        for each in asked("sparkle")
    }
    counted = asked("vsibench")[0]
    return made | {
        "reward of SAT": lambda text: sat_reward(text, "left"),
        "reward of VSI-100k": lambda text: vsi_reward.reward(text, counted, "vanilla"),
        "format": lambda text: vsi_reward.reward(text, counted, "think"),
        "habits": lambda text: vsi_reward.habits([text], "think"),
        "graph": lambda text: count_misaligned(graph.extract(text)),
        "names": lambda text: count_misaligned(graph.extract(json.dumps({"objects": [{"id": text}]}))),
        "block": graph.last_block,
        "program": lambda text: program.run(text, {}),
    }


def test_huge_texts_take_less_than_a_second():
    rng, size, slow = Random(0), 10**6 if LARGE else 100_000, []
    for name, read in readers().items():
        for phrase in PHRASES if LARGE else rng.sample(PHRASES, 3):
            text = rng.choice(["", "", "<answer>", "<", "1"]) + phrase * (size // len(phrase))
            started = time.process_time()
            read(text)
            if (took := time.process_time() - started) > 1:
                slow.append((round(took, 1), name, phrase[:20]))
    assert not slow
