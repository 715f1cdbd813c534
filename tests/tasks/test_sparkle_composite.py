"""Shortest paths and tours against brute force; every optimal route accepted, near-misses refused."""

import io
import math
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise, permutations
from random import Random

import numpy as np
import pytest
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.example import Example
from spatialvlm.tasks.sparkle import composite as sparkle_composite
from spatialvlm.tasks.sparkle import data as sparkle
from spatialvlm.tasks.sparkle.composite import JOIN, Task, judge, shortest_paths, shortest_tours, tasks
from spatialvlm.tasks.sparkle.data import FORMS
from spatialvlm.tasks.sparkle.scoring import COMPOSITE, ratio, routes, routes_by_task
from spatialvlm.worlds.plane.nodes import Style, render

INSTANCES = 1000
QUICK = {name: replace(form, style=replace(form.style, width=28)) for name, form in FORMS.items()}
STRICT, PAPER = COMPOSITE.rules["strict"], COMPOSITE.rules["paper"]


def optimal(text: str, example: Example) -> bool:
    return STRICT.score_of(STRICT.parse(text, example), STRICT.gold(example)) == 1


# ---- against brute force


def grids(count: int = INSTANCES) -> list[Example]:
    """Paths through grids of all sizes, with few or many lines missing."""
    made = []
    for number in range(count):
        task = Task("path", 2 + number % 4, (0, 0.1, 0.25, 0.4)[number // 4 % 4])
        made.append(task.make(f"brute-{number}", QUICK["paper"], number))
    return made


def test_paths_agree_with_powers_of_the_adjacency_matrix():
    """The first power with a walk from start to end has the optimum as its exponent, and as many shortest
    paths as walks; every one of them is accepted, and what is nearly one is not."""
    optima = Counter()
    for example in grids():
        meta, labels = example.meta, [*example.meta["nodes"]]
        index = {label: number for number, label in enumerate(labels)}
        joined = np.zeros((len(labels), len(labels)), int)
        for first, second in meta["edges"]:
            joined[index[first], index[second]] = joined[index[second], index[first]] = 1
        start, end = index[meta["start"]], index[meta["end"]]
        walks, legs = joined, 1
        while not walks[start, end]:
            walks, legs = walks @ joined, legs + 1
        found = shortest_paths(labels, meta["edges"], meta["start"], meta["end"])
        assert (meta["optimum"], len(found)) == (legs, walks[start, end])
        assert len({tuple(path) for path in found}) == len(found)
        assert example.answer.split(JOIN) in found
        for path in found:
            assert judge(path, meta) == (1, "")
            assert judge([*path[:-1]], meta).fault and judge(path[::-1], meta).fault
            assert judge([path[0], *path], meta).fault
            if len(path) > 3:
                swapped = [path[0], path[2], path[1], *path[3:]]
                assert judge(swapped, meta).fault and judge([path[0], *path[2:]], meta).fault
        optima[legs] += 1
    assert len(optima) > 6


def walks(example: Example, limit: int) -> list[list[str]]:
    """All paths without a node twice, of at most `limit` legs, by trying every step."""
    near = {label: [] for label in example.meta["nodes"]}
    for first, second in example.meta["edges"]:
        near[first].append(second)
        near[second].append(first)
    found, open_ends = [], [[example.meta["start"]]]
    while open_ends:
        path = open_ends.pop()
        if path[-1] == example.meta["end"]:
            found.append(path)
        elif len(path) <= limit:
            open_ends += [[*path, label] for label in near[path[-1]] if label not in path]
    return found


def test_longer_paths_are_valid_with_their_ratio_and_not_optimal():
    longer = 0
    for example in grids(INSTANCES // 5):
        best = int(example.meta["optimum"])
        for path in walks(example, best + 2):
            verdict = judge(path, example.meta)
            assert verdict.ratio == (len(path) - 1) / best and verdict.optimal == (len(path) - 1 == best)
            longer += not verdict.optimal
    assert longer > 500


def test_tours_agree_with_every_order_tried():
    rng = Random(0)
    for number in range(INSTANCES):
        size = 3 + number % 4 if number % 50 else 8
        nodes = {f"N{n}": (rng.uniform(0, 10), rng.uniform(0, 10)) for n in range(1, size + 1)}
        first, *others = nodes
        tried = sorted(
            (sum(math.dist(nodes[a], nodes[b]) for a, b in pairwise((first, *order, first))), (first, *order))
            for order in permutations(others)
        )
        found = shortest_tours(nodes, best=2)
        assert [length for length, _ in found] == pytest.approx(
            [length for length, _ in tried[: 2 * len(found) : 2]]
        )
        meta = {"nodes": nodes, "optimum": found[0][0]}
        for length, order in tried[:6]:
            turn = rng.randrange(size)
            verdict = judge([*order[turn:], *order[:turn], order[turn]], meta)
            assert verdict.ratio == pytest.approx(length / found[0][0])
            assert verdict.optimal == (length < found[0][0] * (1 + 1e-7))


def test_a_tour_can_be_told_from_the_next_best():
    for example in sparkle_composite.load("paper", limit=100, form=QUICK["paper"])[4::5]:
        (best, order), (second, _) = shortest_tours(example.meta["nodes"], best=2)
        assert best == example.meta["optimum"] and second >= 1.02 * best
        assert example.answer == JOIN.join([*order, order[0]])


# ---- the items


def test_embedded_grids_have_their_nodes_in_the_middles_of_patches():
    for task in tasks(FORMS["embedded"]):
        if task.side:
            nodes = task.make("x", FORMS["embedded"], 0).meta["nodes"]
            assert {round(9 * along / 10, 1) % 1 for point in nodes.values() for along in point} == {0.5}


def test_a_line_is_as_wide_as_its_style_says():
    nodes, edge = {"N1": (2.0, 5.0), "N2": (8.0, 5.0)}, [("N1", "N2")]
    for width, pixels in ((0.1, 1), (0.4, 4)):
        image = render(nodes, Style(width=100, edge=width), Random(0), edge)
        assert (np.asarray(image)[:, 50, 0] < 128).sum() == pixels


@pytest.mark.parametrize(
    "name, names, sizes",
    [
        ("paper", ["path_4x4", "path_5x5", "path_4x4_removed", "path_5x5_removed", "tour"], {4, 5, 6, 7, 8}),
        ("embedded", ["path_3x3", "path_4x4", "path_3x3_removed", "path_4x4_removed", "tour"], {4, 5}),
    ],
)
def test_items(name, names, sizes):
    examples = sparkle_composite.load(name, form=QUICK[name])
    assert len(examples) == 1000
    sample = examples[:100]
    assert [example.task for example in sample] == names * 20
    assert {len(example.meta["nodes"]) for example in sample if example.task == "tour"} == sizes
    for example in sample:
        assert STRICT.score_of(STRICT.parse(example.answer, example), STRICT.gold(example)) == 1
        assert PAPER.score_of(PAPER.parse(example.answer, example), PAPER.gold(example)) == 1
        if "removed" in example.task:
            side = int(example.task[5])
            assert len(example.meta["edges"]) == round(0.75 * 2 * side * (side - 1))
        if "edges" in example.meta:
            assert example.meta["optimum"] >= int(example.task[5]) - 1


def test_nothing_but_the_image_says_where_to_go():
    """Questions are all alike, and labels are at every place of a grid equally often."""
    examples = sparkle_composite.load("paper", limit=1000, form=QUICK["paper"])[::5]
    assert len({example.prompt for example in examples}) == 1
    corners = Counter([*example.meta["nodes"]][0] for example in examples)
    assert len(corners) == 16 and max(corners.values()) < 30
    guess = Counter(example.answer for example in examples).most_common(1)[0][0]
    assert sum(optimal(guess, example) for example in examples) <= 2


def test_start_is_green_and_end_is_red():
    example = sparkle_composite.load("paper")[0]
    image = np.asarray(example.images[0]).astype(int)
    for label, colour in ((example.meta["start"], (80, 208, 80)), (example.meta["end"], (255, 80, 80))):
        x, y = example.meta["nodes"][label]
        own = np.argwhere(abs(image - colour).sum(2) < 8)
        assert len(own) > 500
        assert np.hypot(own[:, 1] - 44.8 * x, own[:, 0] - 448 + 44.8 * y).max() < 0.45 * 44.8 + 2


# ---- reading and scoring


def item(**changed) -> Example:
    """A square with a corridor: N1 - N2 - N4, N1 - N3 - N4, and N4 - N5; or, without edges, a tour."""
    nodes = {"N1": (0.0, 0.0), "N2": (3.0, 0.0), "N3": (0.0, 4.0), "N4": (3.0, 4.0)}
    meta = {"nodes": nodes, "optimum": 2.0, "start": "N1", "end": "N4", "options": ()}
    meta["edges"] = [("N1", "N2"), ("N1", "N3"), ("N2", "N4"), ("N3", "N4")]
    return Example("x", (Image.new("RGB", (2, 2)),), "?", "N1 -> N2 -> N4", "path_2x2", meta=meta | changed)


def tour() -> Example:
    example = item()
    meta = {"nodes": example.meta["nodes"], "optimum": 14.0, "options": ()}
    return replace(example, task="tour", answer="N1 -> N2 -> N4 -> N3 -> N1", meta=meta)


@pytest.mark.parametrize(
    "text, read",
    [
        ("N1 -> N2 -> N4", "N1 -> N2 -> N4 | optimal"),
        ("N1 → N3 → N4", "N1 -> N3 -> N4 | optimal"),
        ("N1, N3, N4.", "N1 -> N3 -> N4 | optimal"),
        ("n1 n3 n4", "N1 -> N3 -> N4 | optimal"),
        ("1 -> 3 -> 4", "N1 -> N3 -> N4 | optimal"),
        ('["N1", "N3", "N4"]', "N1 -> N3 -> N4 | optimal"),
        ("The shortest path from N1 to N4 is N1, then N2, and then N4.", "N1 -> N2 -> N4 | optimal"),
        ("N1 -> N2 -> N4 is the shortest path from N1 to N4.", "N1 -> N2 -> N4 | optimal"),
        ("Start at N1. Go right to N2. Then go up. You reach N4.", "N1 -> N2 -> N4 | optimal"),
        ("<think>N1 -> N3 -> N4?</think><answer>N1-N2-N4</answer>", "N1 -> N2 -> N4 | optimal"),
        ("N1 -> N4 has no line, so N1 -> N2 -> N4", "N1 -> N2 -> N4 | optimal"),
        ("N1 -> N2 -> N4. This avoids N3, N4.", "N1 -> N2 -> N4 | optimal"),
        ("N1 (green) -> N2 -> N4 (red)", "N1 -> N2 -> N4 | optimal"),
        ("green node N1 -> N2 -> red node N4", "N1 -> N2 -> N4 | optimal"),
        ("N1 -> N2 (3.0 units) -> N4", "N1 -> N2 -> N4 | optimal"),
        ("N1 to N2, N2 to N4", "N1 -> N2 -> N4 | optimal"),
        ("1. N1 -> N2\n2. N2 -> N4", "N1 -> N2 -> N4 | optimal"),
        ("Start at N1, go to N2. Then go to N4.", "N1 -> N2 -> N4 | optimal"),
        ("Go from N1 up to N2, then right to N4", "N1 -> N2 -> N4 | optimal"),
        ("N1 -> N2 -> N2 -> N4", "N1 -> N2 -> N2 -> N4 | no route: N2 is repeated"),
        ("N1, N2, N2, N4", "N1 -> N2 -> N2 -> N4 | no route: N2 is repeated"),
        ("N1 -> N2 -> N4 or N1 -> N3 -> N4", None),
        ("N1 -> N4", "N1 -> N4 | no route: no line joins N1 and N4"),
        ("N4 -> N2 -> N1", "N4 -> N2 -> N1 | no route: it leads from N4 to N1"),
        ("N1 -> N2", "N1 -> N2 | no route: it leads from N1 to N2"),
        ("N1 -> N9 -> N4", "N1 -> N9 -> N4 | no route: N9 is no node"),
        ("N1 -> N2 -> N1 -> N3 -> N4", "N1 -> N2 -> N1 -> N3 -> N4 | no route: N1 is repeated"),
        ("N1", None),
        ("", None),
        ("I see no path.", None),
    ],
)
def test_paths_are_read_and_judged(text, read):
    assert STRICT.parse(text, item()) == read
    assert optimal(text, item()) == bool(read and read.endswith("optimal"))


@pytest.mark.parametrize(
    "text, is_optimal, is_exact",
    [
        ("N1 -> N2 -> N4 -> N3 -> N1", True, True),
        ("N1 -> N2 -> N4 -> N3", True, True),
        ("N1 -> N2 -> N4 -> N3 -> back to N1", True, True),
        ("N1 to N2 (3.0), N2 to N4 (4.0), N4 to N3 (3.0), N3 to N1 (4.0)", True, True),
        ("N1-N2: 3, N2-N4: 4, N4-N3: 3, N3-N1: 4", True, True),
        ("N1 -> N3 -> N4 -> N2 -> N1", True, False),  # the other way round
        ("N2 -> N4 -> N3 -> N1 -> N2", True, False),
        ("N1 -> N4 -> N2 -> N3 -> N1", False, False),
        ("N1 -> N2 -> N4 -> N1", False, False),
        ("N1 -> N2 -> N4 -> N3 -> N2", False, False),
        ("N1 -> N2 -> N4 -> N3 -> N5 -> N1", False, False),
    ],
)
def test_tours_are_read_and_judged(text, is_optimal, is_exact):
    example = tour()
    assert optimal(text, example) == is_optimal
    assert PAPER.score_of(PAPER.parse(text, example), PAPER.gold(example)) == is_exact


def test_totals_by_hand():
    texts = {
        "path": ["N1 -> N2 -> N4", "N1 -> N3 -> N4", "N1 -> N4", ""],
        "tour": ["N1 -> N2 -> N4 -> N3", "N1 -> N4 -> N2 -> N3", "N1 -> N4 -> N3 -> N2", "N1 -> N2"],
    }
    records = []
    for task, said in texts.items():
        example = item() if task == "path" else tour()
        for text in said:
            parsed, gold = STRICT.parse(text, example), STRICT.gold(example)
            score = STRICT.score_of(parsed, gold)
            records.append(
                {"task": task, "parsed": parsed, "gold": gold, "score": score, "correct": score == 1}
            )
    found = routes(records)
    values = {name: estimate.value for name, estimate in found.items()}
    crossed = (5 + 4 + 5 + 4) / 14, (5 + 3 + 5 + 3) / 14  # N1-N4 and N2-N3 are diagonals of 5
    assert values == pytest.approx(
        {"optimal": 3 / 8, "exact": 2 / 8, "valid": 5 / 8, "length_ratio": (3 + sum(crossed)) / 5}, abs=1e-4
    )
    low, high = found["length_ratio"].interval
    assert 1 <= low < values["length_ratio"] < high and found["length_ratio"].n == 5
    assert routes_by_task(records)["path"]["length_ratio"].interval == (1, 1)
    assert "length_ratio" not in routes(records[2:4])
    totals = COMPOSITE.aggregate(records)
    assert totals["micro"].value == totals["optimal"].value == 3 / 8
    assert metrics.chance(records[:4], score=STRICT.score) == 1  # its one item's reference, always given
    several = [record | {"num_samples": 2, "parsed": [record["parsed"]] * 2} for record in records]
    assert set(COMPOSITE.aggregate(several)) == {"micro", "mean_of_tasks"}
    nearly = replace(tour(), meta=tour().meta | {"optimum": 14 / 1.00001})  # no rounding makes it optimal
    assert not optimal(nearly.answer.replace("N2 -> N4 -> N3", "N3 -> N4 -> N2"), nearly)
    assert [ratio(text) for text in (None, "N1 | no route: N1 is repeated")] == [None, None]


# ---- bad input


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: shortest_paths(["N1", "N2"], [], "N1", "N2"), "the grid has no path from N1 to N2"),
        (lambda: shortest_paths(["N1", "N2"], [("N1", "N2")], "N1", "N3"), "N3 is none of the grid's nodes"),
        (lambda: shortest_tours({"N1": (0, 0), "N2": (1, 1)}), "a tour needs 3 nodes at least, not 2"),
        (lambda: tasks(FORMS["paper"], 1.0), "--removed 1.0: must be a fraction"),
        (lambda: tasks(FORMS["paper"], math.nan), "--removed nan"),
        (lambda: tasks(FORMS["paper"], 0.02), "--removed 0.02 leaves every line of a 4 x 4 grid"),
        (
            lambda: tasks(replace(FORMS["paper"], grids=(12,))),
            "a grid of 12 x 12 nodes of radius 0.45 does not fit",
        ),
        (lambda: tasks(replace(FORMS["paper"], tours=(4, 20))), "tours of 4 to 20 nodes"),
        (lambda: Task("path", 4, 0.95).make("x", QUICK["paper"], 0), "--removed 0.95 leaves no path"),
        (lambda: sparkle_composite.load("paper", limit=0), "--limit must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_named(call, message):
    with pytest.raises(UserError, match=re.escape(message)):
        call()


MANY_NODES = [{"label": f"N{number}", "x": number / 3, "y": number % 7} for number in range(1, 27)]


def row(example: Example) -> dict:
    buffer = io.BytesIO()
    example.images[0].save(buffer, "PNG")
    return sparkle.row(example, buffer.getvalue())


@pytest.mark.parametrize(
    "task, changed, message",
    [
        (0, {"answer": "N7 -> N13"}, "row 1: 'answer' 'N7 -> N13' is not the shortest"),
        (0, {"answer": "N99 -> N13"}, "is not the shortest: N99 is no node"),
        (0, {"answer": ""}, "row 1 has no 'answer'"),
        (0, {"edges": []}, "row 1: the grid has no path"),
        (0, {"edges": None}, "row 1: path_4x4 needs 'optimum', and 'edges'"),
        (0, {"edges": [["N1", "N99"]]}, "row 1: 'edges', 'start' and 'end' must be among its nodes"),
        (0, {"edges": [["N1"]]}, "row 1: 'edges', 'start' and 'end' must be among its nodes"),
        (0, {"start": "N99"}, "row 1: 'edges', 'start' and 'end' must be among its nodes"),
        (0, {"optimum": 9.0}, "row 1: 'optimum' is 9, and the shortest is 3 long"),
        (4, {"nodes": [{"label": "N1", "x": 1.0, "y": 1.0}]}, "row 1: a tour needs 3 nodes at least, not 1"),
        (4, {"nodes": MANY_NODES}, "row 1: a tour of 26 nodes takes too long to check; 12 at most"),
        (4, {"optimum": math.nan}, "row 1: tour needs 'optimum'"),
        (4, {"optimum": None}, "row 1: tour needs 'optimum'"),
        (4, {"answer": "N1 -> N2 -> N3 -> N4 -> N1"}, "times as long as 'optimum'"),
        (4, {"task": "tours"}, "row 1: 'task' 'tours' is none of this data set"),
    ],
)
def test_a_row_that_is_not_whole_is_named(tmp_path, task, changed, message):
    examples = sparkle_composite.load("paper", form=QUICK["paper"])
    listed = [row(examples[9]), row(examples[task]) | changed]
    sparkle.write(tmp_path / "composite-00000-of-00001.parquet", iter(listed))
    with pytest.raises(UserError, match=re.escape(message)):
        sparkle_composite.load(tmp_path)
