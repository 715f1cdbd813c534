"""Sparkle's basic questions: every answer recomputed another way, nothing given away, nothing ambiguous."""

import io
import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import replace
from random import Random

import numpy as np
import pandas
import pytest
from PIL import Image
from scipy.stats import chi2_contingency, chisquare

from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.example import Example
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.sparkle.data import FORMS, Form
from spatialvlm.tasks.sparkle.questions import FAMILIES
from spatialvlm.tasks.sparkle.scoring import BASIC, vocabulary
from spatialvlm.worlds.plane.nodes import CELLS, QUADRANTS, SECTORS, Style, place, render

ITEMS = 5000  # of each form, whose answers are recomputed
QUICK = {name: replace(form, style=replace(form.style, width=28)) for name, form in FORMS.items()}  # to draw
STRICT = BASIC.rules["strict"]


def made(name: str = "paper", split: str = "train", **options) -> list[Example]:
    return list(sparkle.load(name, split, form=QUICK[name], **options))


# ---- every answer, another way


def sector_of(vector: complex) -> str:
    """The sector whose middle is most nearly the way of a vector: by products; the maker takes angles."""
    middles = [np.exp(1j * np.pi / 4 * number) for number in range(8)]
    return SECTORS[int(np.argmax([(vector * middle.conjugate()).real for middle in middles]))]


def cell_of(point: complex) -> str:
    columns, rows = ("left", "middle", "right"), ("lower", "middle", "upper")
    column, row = columns[int(point.real * 3 / 10)], rows[int(point.imag * 3 / 10)]
    return {"middle middle": "center"}.get(f"{row} {column}", f"{row} {column}")


def recomputed(example: Example, nodes: dict[str, complex]) -> str:
    """The answer, from the question's words and the nodes' places alone."""
    question = example.question
    named = re.findall(r"\bN\d+\b", question)
    at = [nodes[label] for label in named]
    others = {label: point for label, point in nodes.items() if label not in named}

    def away(label: str) -> float:
        return abs(nodes[label] - nodes[anchor])

    if example.task == "direction":
        return sector_of(at[1] - at[0])
    if example.task == "direction_check":
        said = re.search(r"to N\d+ ([a-z ]+)\?", question)[1]
        return "yes" if sector_of(at[1] - at[0]) == said else "no"
    if example.task == "direction_node":
        said = re.search(r"direction ([a-z ]+) from", question)[1]
        (label,) = (label for label, point in others.items() if sector_of(point - at[0]) == said)
        return label
    if example.task == "distance_exact":
        return f"{abs(at[1] - at[0]):.1f}"
    if example.task == "distance_route":
        return f"{sum(map(abs, np.diff(at))):.1f}"
    if example.task == "distance_ratio":
        return f"{abs(at[1] - at[0]) / abs(at[2] - at[0]):.1f}"
    anchor = named[-1 if example.task == "distance_order" else 0] if named else ""
    if example.task == "distance_farther":
        return max(named[1:], key=away)
    if example.task == "distance_nearest":
        return min(others, key=away)
    if example.task == "distance_farthest":
        return max(others, key=away)
    if example.task == "distance_order":
        return ", ".join(sorted(named[:-1], key=away))
    if example.task == "location_cell":
        return cell_of(at[0])
    if example.task == "location_quadrant":
        return f"{'upper' if at[0].imag > 5 else 'lower'} {'right' if at[0].real > 5 else 'left'}"
    if example.task == "location_coordinates":
        return f"({at[0].real:.1f}, {at[0].imag:.1f})"
    if example.task == "location_node":
        said = re.search(r"in the ([a-z ]+) cell", question)[1]
        (label,) = (label for label, point in nodes.items() if cell_of(point) == said)
        return label
    turned = {"left": -1, "right": 1, "up": -1j, "down": 1j}[re.search(r"left|right|up|down", question)[0]]
    along = {label: (point * turned).real for label, point in nodes.items()}
    if example.task == "location_extreme":
        return max(along, key=along.get)
    assert example.task == "location_count"
    return str(sum(value > along[named[0]] for value in along.values()))


def as_complex(example: Example) -> dict[str, complex]:
    return {label: complex(*point) for label, point in example.meta["nodes"].items()}


@pytest.mark.parametrize("name", FORMS)
def test_every_answer_is_recomputed_and_none_is_ambiguous(name):
    examples = made(name, limit=ITEMS)
    assert {example.task for example in examples} == set(FAMILIES)
    rng = Random(0)
    for example in examples:
        nodes = as_complex(example)
        assert recomputed(example, nodes) == example.answer, example
        if not FAMILIES[example.task].numbers or example.task == "location_count":
            moved = {  # a pixel's worth this way or that changes no answer
                label: point + complex(rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03))
                for label, point in nodes.items()
            }
            assert recomputed(example, moved) == example.answer, example
        gold = STRICT.gold(example)
        assert gold is not None and STRICT.score_of(STRICT.parse(example.answer, example), gold) == 1


def test_two_thousand_configurations_make_34_000_pairs_of_which_any_can_be_made_alone():
    examples = sparkle.load("paper", "train")
    assert len(examples) == 34_000 and len({id(examples[at].images[0]) for at in range(17)}) == 1
    alone = sparkle.load("paper", "train")[33_999]
    assert (alone.id, alone.prompt) == (examples[33_999].id, examples[33_999].prompt)
    assert alone.images[0].tobytes() == examples[33_999].images[0].tobytes()


def test_a_test_asks_each_family_once_a_configuration_and_no_question_twice():
    examples = made(split="test", pairs=16, configurations=30)
    assert set(Counter(example.task for example in examples).values()) == {30}
    by_image = [examples[at : at + 16] for at in range(0, len(examples), 16)]
    assert all(len({example.question for example in part}) == 16 for part in by_image)


# ---- what the text gives away


@pytest.fixture(scope="module")
def many() -> list[Example]:
    """The questions of 1,000 configurations."""
    return made(configurations=1000)


def test_label_positions_are_uniform(many):
    inset = FORMS["paper"].style.radius
    places, table = defaultdict(list), []
    for example in many[::17]:
        for label, point in example.meta["nodes"].items():
            places[label].append(point)
    for points in places.values():
        parts = np.clip(((np.array(points) - inset) / (10 - 2 * inset) * 4).astype(int), 0, 3)
        table.append(np.bincount(parts[:, 0] * 4 + parts[:, 1], minlength=16))
    assert len(table) == 8
    assert chisquare(np.sum(table, axis=0)).pvalue > 0.001
    assert chi2_contingency(table).pvalue > 0.001  # no label has places of its own


def pattern(text: str, named: list[str]) -> str:
    """A text with its labels as the first, second, ... that the question names."""
    return re.sub(r"N\d+", lambda found: f"#{named.index(found[0])}" if found[0] in named else found[0], text)


def test_text_alone_answers_no_better_than_chance(many):
    """Two readers of text without images, who know 17,000 answers: one goes by the very question, one by
    its wording and by which of the nodes it names are the answer."""
    test = made(split="test", configurations=200, pairs=16)
    by_family = metrics.group([{"task": e.task, "gold": STRICT.gold(e)} for e in test])
    keys = [
        lambda example, named: example.question,
        lambda example, named: pattern(example.question, named),
        lambda example, named: example.task,
    ]
    for reader in ((0, 2), (1, 2)):
        known = [defaultdict(Counter) for _ in keys]
        for example in many:
            named = re.findall(r"N\d+", example.question)
            for at in reader:
                known[at][keys[at](example, named)][pattern(example.answer, named)] += 1
        right = defaultdict(list)
        for example in test:
            named = re.findall(r"N\d+", example.question)
            seen = next(
                counts for at in reader if (counts := known[at].get(keys[at](example, named))) is not None
            )
            guess = re.sub(
                r"#(\d+)", lambda found, named=named: named[int(found[1])], seen.most_common(1)[0][0]
            )
            said, gold = STRICT.parse(guess, example), STRICT.gold(example)
            right[example.task].append(STRICT.score_of(said, gold))
        for task, scores in right.items():
            guessed = np.mean([1 / len(vocabulary(e) or test) for e in test if e.task == task])
            chance = max(guessed, metrics.chance(by_family[task], score=STRICT.score))
            error = math.sqrt(chance * (1 - chance) / len(scores))
            assert np.mean(scores) <= chance + 3.5 * error, (task, np.mean(scores), chance)


@pytest.mark.parametrize(
    "task, answers",
    [
        ("direction", SECTORS),
        ("direction_check", ("yes", "no")),
        ("location_cell", CELLS),
        ("location_quadrant", QUADRANTS),
    ],
)
def test_short_lists_of_answers_are_equally_frequent(many, task, answers):
    counts = Counter(example.answer for example in many if example.task == task)
    assert set(counts) == set(answers)
    assert max(counts.values()) / counts.total() < 1.2 / len(answers)


# ---- parts of the whole


def test_capabilities_and_numbers_choose_families_and_change_no_configuration():
    everything = made(configurations=3)
    for capabilities in (["direction"], ["distance", "localization"]):
        part = made(configurations=3, capabilities=capabilities)
        assert {FAMILIES[example.task].capability for example in part} == set(capabilities)
        assert [e.meta["nodes"] for e in everything[::17]] == [
            example.meta["nodes"] for example in part[:: len(part) // 3]
        ]
    without = made(configurations=40, numbers=False)
    assert len({example.task for example in without}) == 11
    assert not any(re.fullmatch(r"[\d.]+|\(.*", example.answer) for example in without)
    assert [len(sparkle.chosen([name])) for name in sparkle.CAPABILITIES] == [3, 7, 6]


def test_splits_and_seeds_share_no_configuration():
    kinds = [("train", 0), ("test", 0), ("validation", 0), ("train", 1)]
    nodes = [str(made(split=split, seed=seed, limit=1)[0].meta["nodes"]) for split, seed in kinds]
    assert len(set(nodes)) == 4


# ---- images


def test_nodes_are_where_the_questions_have_them():
    example = sparkle.load("paper", "train")[0]
    image = np.asarray(example.images[0].convert("L")).astype(int)
    assert image.shape == (448, 448)
    grey = np.argwhere(abs(image - 0xB4) <= 2)  # (row, column)
    for x, y in example.meta["nodes"].values():
        own = grey[np.hypot(grey[:, 1] - 44.8 * x, grey[:, 0] - 448 + 44.8 * y) < 0.45 * 44.8 + 1]
        assert abs(np.median(own[:, 1]) - 44.8 * x) < 6 and abs(np.median(own[:, 0]) - 448 + 44.8 * y) < 6
        assert len(own) > 400
    assert (image == 255).mean() > 0.7


@pytest.mark.parametrize(
    "setting",
    ["background=beige", "node=gold", "label=red", "shape=ring", "shape=square", "radius=0.3", "glyph=0.5"]
    + ["lines=true", "noise=8", "jitter=0.3", "text={}"],
)
def test_every_setting_changes_the_image_and_the_same_seed_none(setting):
    nodes = {"N1": (2.0, 3.0), "N2": (7.5, 6.0)}
    style = Style(width=112).changed([setting])
    plain, one, same = (render(nodes, each, Random(0)) for each in (Style(width=112), style, style))
    assert one.tobytes() == same.tobytes() != plain.tobytes() and one.size == (112, 112)


def test_embedded_glyphs_are_large_and_no_two_nodes_touch():
    for example in made("embedded", configurations=20)[::17]:
        points = list(as_complex(example).values())
        gaps = [abs(a - b) for at, a in enumerate(points) for b in points[:at]]
        assert min(gaps) >= 2.3 and 4 <= len(points) <= 5
    image = render({"N8": (5.0, 5.0)}, FORMS["embedded"].style, Random(0))
    rows = np.argwhere(np.asarray(image.convert("L")) < 60)[:, 0]
    assert image.size == (126, 126) and rows.max() - rows.min() >= 13  # a digit is a patch high


# ---- reading


def asked(task: str, question: str, options: tuple[str, ...] = (), answer: str = "N1") -> Example:
    kind = FAMILIES[task].answer_type
    meta = {"answer_type": kind, "options": options, "nodes": {f"N{n}": (n, n) for n in range(1, 9)}}
    return Example("x", (Image.new("RGB", (2, 2)),), question, answer, task, meta=meta)


NEAREST = asked("distance_nearest", "Which node is nearest to N1?")
FARTHER = asked("distance_farther", "Which node is farther from N1, N2 or N3?", ("N2", "N3"))
ORDER = asked("distance_order", "Order N2, N3 and N4 by their distance from N1.", ("N2", "N3", "N4"))
WAY = asked("direction", "What is the direction from N1 to N2?")
CELL = asked("location_cell", "In which cell of a 3 x 3 grid over the picture is N1?")
CORNER = asked("location_quadrant", "In which quadrant of the picture is N1?")
PLACE = asked("location_coordinates", "What are the coordinates of N1?")
HOW_FAR = asked("distance_exact", "How far apart are N1 and N2?")


@pytest.mark.parametrize(
    "example, text, read",
    [
        (NEAREST, "N3", "N3"),
        (NEAREST, "The node nearest to N1 is N3.", "N3"),
        (NEAREST, "node 3", "N3"),
        (NEAREST, "<answer>n_3</answer>", "N3"),
        (NEAREST, "3", "N3"),
        (NEAREST, "N12", "N12"),
        (NEAREST, "N3 or N4", None),
        (NEAREST, "It is not N3 but N4.", "N4"),
        (NEAREST, "N1", "N1"),
        (NEAREST, "", None),
        (NEAREST, "I cannot tell.", None),
        (FARTHER, "N3 is farther from N1 than N2.", "N3"),
        (FARTHER, "N2 and N3 are equally far.", None),
        (FARTHER, "N2 is closer to N1 than N3.", "N3"),
        (FARTHER, "N3, since N2 is closer", "N3"),
        (ORDER, "N3, N2, N4", "N3, N2, N4"),
        (ORDER, "From N1: N3 < N2 < N4", "N3, N2, N4"),
        (ORDER, "N3 is nearest, then N2 and finally N4", "N3, N2, N4"),
        (ORDER, "N3, N3, N4", "N3, N3, N4"),
        (ORDER, "N3", None),
        (WAY, "upper right", "upper right"),
        (WAY, "N2 is to the upper-right of N1.", "upper right"),
        (WAY, "top right", "upper right"),
        (WAY, "Northeast", "upper right"),
        (WAY, "above and to the right", "upper right"),
        (WAY, "to the right of N1 and slightly above it", "upper right"),
        (WAY, "N2 is directly above N1.", "above"),
        (WAY, "up", "above"),
        (WAY, "left or right", None),
        (WAY, "N1 is to the left of N2.", "right"),
        (WAY, "Node 1 is directly above node 2", "below"),
        (WAY, "N1 lies lower left of N2", "upper right"),
        (WAY, "The direction from N1 to N2 is left", "left"),
        (WAY, "From N1 go right to N2", "right"),
        (WAY, "N1 is in the center and N2 is in the upper right", "upper right"),
        (WAY, "above or right", None),
        (WAY, "not left, but below", "below"),
        (WAY, "", None),
        (CELL, "center", "center"),
        (CELL, "the middle cell", "center"),
        (CELL, "top center", "upper middle"),
        (CELL, "middle row, left column", "middle left"),
        (CELL, "bottom-right", "lower right"),
        (CELL, "left", None),
        (CELL, "upper left or upper right", None),
        (CORNER, "the top left quadrant", "upper left"),
        (CORNER, "top", None),
        (PLACE, "(3.2, 7.5)", "(3.2, 7.5)"),
        (PLACE, "x = 3.2, y = 7.5", "(3.2, 7.5)"),
        (PLACE, "N1 is at (3, 7).", "(3.0, 7.0)"),
        (PLACE, "3.2", None),
        (PLACE, "For N1, 3.2 and 7.5", "(3.2, 7.5)"),
        (PLACE, "N1, 3", None),
        (HOW_FAR, "N1 and N2 are about 5.3 units apart.", 5.3),
        (HOW_FAR, "between 5 and 6", None),
        (HOW_FAR, "5", 5.0),
        (HOW_FAR, "N1", None),
    ],
)
def test_reading_as_a_person_would(example, text, read):
    assert STRICT.parse(text, example) == read


@pytest.mark.parametrize(
    "said, gold, score",
    [
        (5.4, 5.0, 1),
        (5.6, 5.0, 0),
        (-5.0, 5.0, 0),
        (3, 3, 1),
        (4, 3, 0),
        ("(3.4, 7.5)", "(3.0, 7.0)", 1),
        ("(3.6, 7.0)", "(3.0, 7.0)", 0),
        ("(1e-05, 7.0)", "(0.3, 7.0)", 1),
        ("(1e+22, 7.0)", "(3.0, 7.0)", 0),
        ("(inf, 7.0)", "(3.0, 7.0)", 0),
        ("upper left", "upper", 0),
        (None, 5.0, 0),
        (None, "N1", 0),
    ],
)
def test_scores(said, gold, score):
    assert STRICT.score_of(said, gold) == score


def test_a_length_is_measured_however_it_is_written():
    for answer, said, score in (("5", "5.4", 1), ("5.0", "5", 1), ("5", "5.6", 0)):
        example = replace(HOW_FAR, answer=answer)
        assert STRICT.score_of(STRICT.parse(said, example), STRICT.gold(example)) == score


def test_totals_by_capability():
    marks = {"direction": "10", "direction_node": "1", "distance_exact": "0", "location_cell": "11"}
    records = [
        {"task": task, "correct": mark == "1", "score": float(mark)}
        for task, row in marks.items()
        for mark in row
    ]
    totals = BASIC.aggregate(records)
    assert [totals[name].value for name in sparkle.CAPABILITIES] == [0.75, 0, 1]
    assert (totals["micro"].value, totals["mean_of_tasks"].value) == (4 / 6, 2.5 / 4)


# ---- bad input


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: place(90, 1.2, 0.45, Random(0)), "90 nodes at least 1.2 units apart do not fit"),
        (lambda: place(54, 1.2, 0.45, Random(0)), "54 nodes at least 1.2 units apart do not fit"),
        (
            lambda: sparkle.load(limit=1, form=replace(QUICK["paper"], nodes=(40, 40), gap=0.95))[0],
            "100 images of 40 to 40 nodes at least 0.95 units apart hold none",
        ),
        (lambda: Form(nodes=(3, 5)), "nodes from 3 to 5: the basic questions need 4"),
        (lambda: Form(nodes=(6, 5)), "nodes from 6 to 5"),
        (lambda: Form(gap=0.5), "gap 0.5: nodes of radius 0.45 overlap"),
        (lambda: Form(gap=math.nan), "gap nan"),
        (lambda: Style(width=0), "--style width=0"),
        (lambda: Style(background="beigeish"), "--style background=beigeish: must be a colour"),
        (lambda: Style(jitter=math.nan), "--style jitter=nan"),
        (lambda: Style().changed(["colour=red"]), "--style colour=red: must be name=value"),
        (lambda: Style().changed(["width=big"]), "'big' is no int"),
        (lambda: Style().changed(["lines=perhaps"]), "'perhaps' is no bool"),
        (lambda: sparkle.chosen(["depth"]), "--capabilities depth: must be some of"),
        (lambda: sparkle.chosen([]), "--capabilities"),
        (lambda: sparkle.load("paper", "dev"), "splits train, validation, test, not 'dev'"),
        (lambda: sparkle.load("paper", limit=0), "--limit must be at least 1"),
        (lambda: sparkle.load("paper", pairs=0), "--pairs must be at least 1"),
        (lambda: made(capabilities=["direction"], pairs=300, limit=1), "lower --pairs"),
        (lambda: sparkle.load("nowhere"), "no such file or folder: nowhere"),
    ],
)
def test_what_makes_no_sense_is_named(call, message):
    with pytest.raises(UserError, match=re.escape(message)):
        call()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "task, changed, message",
    [
        ("distance_exact", {"answer": "0.0"}, "'answer' '0.0' is no length or ratio"),
        ("distance_ratio", {"answer": "0"}, "'answer' '0' is no length or ratio"),
        ("distance_order", {"options": []}, "is no order of 'options'"),
        ("distance_order", {"answer": "N1, N2"}, "'answer' 'N1, N2' is no order of 'options'"),
        ("distance_farther", {"options": ["N1"], "answer": "N2"}, "'answer' 'N2' is none of 'options' N1"),
    ],
)
def test_an_answer_that_its_question_cannot_have_is_named(tmp_path, task, changed, message):
    example = next(example for example in made(limit=17) if example.task == task)
    row = sparkle.row(example, png(example.images[0])) | changed
    sparkle.write(tmp_path / "test-00000-of-00001.parquet", iter([row]))
    with pytest.raises(UserError, match=re.escape(message)):
        sparkle.load(tmp_path, "test")


def test_nodes_in_json_are_nodes(tmp_path):
    table = pandas.DataFrame([sparkle.row(e, png(e.images[0])) for e in made(limit=2)])
    (tmp_path / "plain").mkdir()
    for folder, nodes in ((tmp_path / "plain", table.nodes), (tmp_path, table.nodes.map(json.dumps))):
        table.assign(nodes=nodes).to_parquet(folder / "test-00000-of-00001.parquet")
    found, plain = sparkle.load(tmp_path, "test"), sparkle.load(tmp_path / "plain", "test")
    assert [each.meta for each in found] == [each.meta for each in plain]
    table.assign(nodes=['["N1"', "N1"]).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(UserError, match="row 0: 'nodes' must be different labels"):
        sparkle.load(tmp_path, "test")


def written(folder, **changed):
    """A file of two rows, whose second has fields changed (None removes one's value)."""
    first, second = (sparkle.row(e, png(e.images[0])) for e in made(limit=2))
    sparkle.write(folder / "test-00000-of-00001.parquet", iter([first, second | changed]))
    return folder


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"answer": None}, "row 1 has no 'answer'"),
        ({"answer": ""}, "row 1 has no 'answer'"),
        ({"answer": "upwards"}, "row 1: 'answer' 'upwards' is none of a question of"),
        ({"question": "Is the direction from N1 to N99 left?"}, "row 1: 'N99' is asked about"),
        ({"task": "directions"}, "row 1: 'task' 'directions' is none of this data set"),
        ({"options": ["N1", None]}, "row 1: 'options' must be a text, not None"),
        ({"answer_type": "label"}, "row 1: 'answer_type' and 'capability' are not those of"),
        ({"nodes": None}, "row 1 has no 'nodes'"),
        ({"nodes": [{"label": "N1", "x": math.nan, "y": 1.0}]}, "row 1: 'nodes' must be different labels"),
        ({"nodes": [{"label": "N1", "x": 1.0, "y": 10.5}]}, "row 1: 'nodes' must be different labels"),
        ({"nodes": [{"label": "N1", "x": 1.0, "y": 1.0}] * 2}, "row 1: 'nodes' must be different labels"),
        ({"image": None}, "row 1 has no 'image'"),
        ({"image": {"bytes": b"no image", "path": None}}, "row 1: the image cannot be read"),
        ({"id": "sparkle-paper-train-0-0-0"}, "row 1: its id 'sparkle-paper-train-0-0-0' is"),
    ],
)
def test_a_row_that_is_not_whole_is_named(tmp_path, changed, message):
    with pytest.raises(UserError, match=re.escape(message)):
        sparkle.load(written(tmp_path, **changed), "test")


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"answer": ""}, "no 'answer'"),
        ({"answer": "upwards"}, "answer does not follow"),
        ({"task": "directions"}, "unknown 'task'"),
        ({"nodes": [{"label": "N1", "x": 1.0, "y": 10.5}]}, "invalid 'nodes'"),
        ({"id": "sparkle-paper-train-0-0-0"}, "duplicate id"),
    ],
)
def test_training_leaves_out_a_row_in_a_hundred_and_a_test_none(tmp_path, capsys, changed, reason):
    examples = made(limit=102)
    image = png(examples[0].images[0])
    many = [sparkle.row(example, image) for example in examples]
    many[50] |= changed
    sparkle.write(tmp_path / "train-00000-of-00001.parquet", iter(many))
    found = sparkle.load(tmp_path, "train", training=True)
    assert [each.id for each in found] == [each.id for each in [*examples[:50], *examples[51:]]]
    assert found.facts == {"excluded": {reason: 1}}
    assert f"1 of 102 rows cannot be used and are left out ({reason} 1)" in capsys.readouterr().err
    with pytest.raises(UserError, match="row 50"):
        sparkle.load(tmp_path, "train")


def test_a_truncated_image_is_named(tmp_path):
    image = png(made(limit=1)[0].images[0])
    with pytest.raises(UserError, match="row 1: the image cannot be read"):
        sparkle.load(written(tmp_path, image={"bytes": image[:120], "path": None}), "test")


def test_rows_of_other_capabilities_are_passed_over_and_none_left_is_said(tmp_path):
    folder = written(tmp_path)
    assert len(sparkle.load(folder, "test", capabilities=["direction"])) == 2
    with pytest.raises(UserError, match="has no row of split 'test' with a task to load"):
        sparkle.load(folder, "test", capabilities=["distance"])
