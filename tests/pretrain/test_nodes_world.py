"""Labelled nodes for pretraining: targets are true to the image, answers to the facts, reckoned again."""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import partial
from random import Random

import asking
import numpy as np
import pytest

from pretrain import nodes_world
from pretrain.build import LABELS
from pretrain.targets import GROUPS, MOST, PATCHES, VALUES
from spatialvlm.tasks.sparkle.questions import ANSWERS, FAMILIES
from spatialvlm.worlds.plane.nodes import PLANE, Configuration

WORLD = nodes_world.WORLD
asked = partial(asking.asked, WORLD, each=5)
COMPASS = {
    f"{up}{along}": np.array([y, x]) / math.hypot(x, y)
    for up, x in (("north", 1), ("", 0), ("south", -1))
    for along, y in (("east", 1), ("", 0), ("west", -1))
    if up or along
}


@pytest.fixture(scope="module")
def made():
    return [WORLD.make("nodes", number) for number in range(120)]


# ---- items


def test_grids_and_scattered_nodes(made):
    grids = [facts for facts in made if "edges" in facts]
    assert abs(len(grids) / len(made) - nodes_world.GRIDS) < 0.12
    sides = Counter()
    for facts in made:
        nodes = facts["nodes"]
        assert len(nodes) <= MOST and set(nodes) == set(LABELS[: len(nodes)])
        assert all(0 < along < PLANE for point in nodes.values() for along in point)
        if facts in grids:
            side = math.isqrt(len(nodes))
            sides[side, len(facts["edges"]) == 2 * side * (side - 1)] += 1
            step = min(math.dist(*(nodes[end] for end in edge)) for edge in facts["edges"])
            for edge in facts["edges"]:
                assert math.dist(*(nodes[end] for end in edge)) == pytest.approx(step, abs=0.02)
            assert facts["start"] != facts["end"] and {facts["start"], facts["end"]} <= set(nodes)
    assert set(sides) == {(side, whole) for side in (3, 4) for whole in (True, False)}
    assert {len(facts["nodes"]) for facts in made if facts not in grids} == {4, 5, 6}


def test_dense_targets_say_what_lies_on_the_patch(made):
    for facts in made[:40]:
        drawn, labels = WORLD.draw(facts), list(facts["nodes"])
        scale = len(drawn.image) / PLANE
        for number, owner in enumerate(drawn.owners):
            row, column = divmod(number, PATCHES)
            middle = (column + 0.5) * PLANE / PATCHES, PLANE - (row + 0.5) * PLANE / PATCHES
            near = [label for label, place in facts["nodes"].items() if math.dist(place, middle) <= 0.85]
            assert [labels[owner]] == near if owner >= 0 else not near
        assert np.isnan(drawn.floor).all()
        for label, classes, values in zip(labels, drawn.classes, drawn.values, strict=True):
            words = {
                group: options[k]
                for k, (group, options) in zip(classes, GROUPS.items(), strict=True)
                if k >= 0
            }
            colour = {facts.get("start"): "green", facts.get("end"): "red"}.get(label, "gray")
            assert words == {"shape": "node", "color": colour, "label": label}
            x, y = facts["nodes"][label]
            pixel = drawn.image[round((PLANE - y) * scale), round((x - 0.7) * scale)].astype(int)
            assert {"red": pixel[0] > pixel[1] + 50, "green": pixel[1] > pixel[0] + 50}.get(
                colour, np.ptp(pixel) < 20
            )
            told = dict(zip(VALUES, values, strict=True))
            assert [told["column"], told["row"]] == pytest.approx([0.4 * x - 2, 2 - 0.4 * y])
            assert [told["x"], told["y"]] == pytest.approx([0.4 * x - 2, 0.4 * y - 2])
            assert math.isnan(told["distance"])
            lines = np.array([told[side] for side in ("right", "left", "above", "below")])
            if "edges" in facts:
                assert np.array_equal(lines > 0, [side in neighbours(facts, label) for side in SIDES])
                assert set(abs(lines)) == {1}
            else:
                assert np.isnan(lines).all()


# ---- answers

SIDES = ("right", "left", "above", "below")


def neighbours(facts, label: str) -> dict[str, str]:
    """By side, the nodes that a line joins to one."""
    found, (x, y) = {}, facts["nodes"][label]
    for edge in facts["edges"]:
        if label in edge:
            (other,) = set(edge) - {label}
            u, v = facts["nodes"][other]
            side = (
                ("right" if u > x else "left") if abs(u - x) > abs(v - y) else "above" if v > y else "below"
            )
            assert side not in found
            found[side] = other
    return found


def lines_away(facts, label: str) -> dict[str, int]:
    """How many lines from a node to every other that can be reached."""
    away, front = {label: 0}, [label]
    while front:
        front = list({other for each in front for other in neighbours(facts, each).values()} - set(away))
        away |= dict.fromkeys(front, max(away.values()) + 1)
    return away


def _direction(facts, one: str, other: str) -> str:
    """The nearest of the eight, clearly so."""
    way = np.subtract(facts["nodes"][other], facts["nodes"][one])
    order = sorted(COMPASS, key=lambda word: -(COMPASS[word] @ way))
    assert COMPASS[order[0]] @ way > math.cos(math.radians(17)) * np.linalg.norm(way)
    return order[0]


def _only_there(facts, anchor: str, word: str) -> str:
    def cosine(label: str) -> float:
        way = np.subtract(facts["nodes"][label], facts["nodes"][anchor])
        return COMPASS[word] @ way / np.linalg.norm(way)

    (found,) = (
        label for label in facts["nodes"] if label != anchor and cosine(label) > math.cos(math.radians(28))
    )
    return found


def _by_distance(facts, anchor: str, labels) -> list[str]:
    """From the nearest to the farthest."""
    return sorted(
        set(labels) - {anchor}, key=lambda label: math.dist(facts["nodes"][anchor], facts["nodes"][label])
    )


def _closest(facts, word: str, anchor: str) -> str:
    return _by_distance(facts, anchor, facts["nodes"])[-1 if "far" in word else 0]


def _rank(facts, anchor: str, one: str, two: str, three: str, word: str) -> str:
    return _by_distance(facts, anchor, (one, two, three))[("closest", "second", "third").index(word)]


def _thirds(facts, label: str) -> tuple[str, str]:
    x, y = (int(3 * along / PLANE) for along in facts["nodes"][label])
    return ("bottom", "middle", "top")[y], ("left", "center", "right")[x]


def _corner(facts, label: str) -> str:
    corners = {
        f"{up} {along}": (x, y)
        for up, y in (("top", 10), ("bottom", 0))
        for along, x in (("right", 10), ("left", 0))
    }
    return min(corners, key=lambda corner: math.dist(corners[corner], facts["nodes"][label]))


def _in_third(facts, row: str, column: str) -> str:
    (found,) = (label for label in facts["nodes"] if _thirds(facts, label) == (row, column))
    return found


_TOWARDS = {"left": (-1, 0), "right": (1, 0), "top": (0, 1), "bottom": (0, -1)}


def _how_many(facts, words: str, label: str) -> str:
    way = _TOWARDS[{"above": "top", "below": "bottom"}.get(words, words.removesuffix(" of"))]
    return str(
        sum(np.subtract(point, facts["nodes"][label]) @ way > 0.3 for point in facts["nodes"].values())
    )


def _first_step(facts, one: str, to: str) -> str:
    away = lines_away(facts, facts["end"] if to == "red" else to)
    (found,) = (other for other in neighbours(facts, one).values() if away[other] < away[one])
    return found


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


NODE = r"(N\d+)"
FORMS = {  # what a question of a kind is like, and its true answer
    "exist": (f"Is there {NODE}?", lambda facts, label: _yes(label in facts["nodes"])),
    "beside": (
        f"Is {NODE} (left or right of|above or below) {NODE}?",
        lambda facts, one, words, other: ("left", "right", "below", "above")[
            2 * ("above" in words)
            + (np.subtract(facts["nodes"][one], facts["nodes"][other])[int("above" in words)] > 0)
        ],
    ),
    "compass": (f"From {NODE}, where is {NODE}?", _direction),
    "compass-node": (rf"From {NODE}, which is (\w+)?", _only_there),
    "apart": (
        f"From {NODE}, how far is {NODE}?",
        lambda facts, one, other: f"{math.dist(facts['nodes'][one], facts['nodes'][other]):.1f}",
    ),
    "closer": (
        f"From {NODE}, is {NODE} or {NODE} (closer|further)?",
        lambda facts, anchor, one, other, word: _by_distance(facts, anchor, (one, other))[word == "further"],
    ),
    "closest": (f"Which is (closest to|far away from) {NODE}?", _closest),
    "rank": (f"From {NODE}, which of {NODE}, {NODE} and {NODE} is (closest|second|third)?", _rank),
    "third": (
        f"Which (row|column) is {NODE} at?",
        lambda facts, what, label: _thirds(facts, label)[what == "column"],
    ),
    "corner": (f"Which corner is {NODE} closest to?", _corner),
    "coordinate": (
        f"How far is {NODE} from (the left side|the bottom)?",
        lambda facts, label, side: f"{facts['nodes'][label][side == 'the bottom']:.1f}",
    ),
    "in-third": (r"Which is at the (\w+) (\w+)?", _in_third),
    "outermost": (
        r"Which is closest to the (\w+) side?",
        lambda facts, side: max(
            facts["nodes"], key=lambda label: np.dot(facts["nodes"][label], _TOWARDS[side])
        ),
    ),
    "how-many": (f"How many are (left of|right of|above|below) {NODE}?", _how_many),
    "coloured": (
        "Which is (green|red)?",
        lambda facts, colour: facts[{"green": "start", "red": "end"}[colour]],
    ),
    "joined": (
        f"Is {NODE} joined to {NODE}?",
        lambda facts, one, other: _yes({one, other} in [set(edge) for edge in facts["edges"]]),
    ),
    "next": (
        f"Which is next (left of|right of|above|below) {NODE}?",
        lambda facts, side, label: neighbours(facts, label).get(side.removesuffix(" of"), "no"),
    ),
    "steps": (
        f"From {NODE} to {NODE}, how many lines?",
        lambda facts, one, other: str(lines_away(facts, one)[other]),
    ),
    "first-step": (rf"From {NODE} toward (red|N\d+), which is next?", _first_step),
}


@pytest.mark.parametrize("kind", FORMS)
def test_short_answers_are_true(made, kind):
    form, truth = FORMS[kind]
    answers = Counter()
    for facts, question in asked(made, "short", kind):
        given = re.fullmatch(form.removesuffix("?") + r"\?", question.prompt).groups()
        assert question.answer == truth(facts, *given), (question, facts)
        answers[question.answer] += 1
    assert sum(answers.values()) >= 80 and len(answers) > 1, answers


def test_every_short_kind_is_reckoned():
    assert set(FORMS) == set(WORLD.plans["short"].askers)


@pytest.mark.parametrize(
    "kind, pairs",
    [
        ("beside", [("left", "right"), ("above", "below")]),
        (
            "compass",
            [("north", "south"), ("east", "west"), ("northeast", "southwest"), ("northeast", "east")],
        ),
        ("third", [("left", "right"), ("top", "bottom")]),
        ("corner", [("top left", "bottom right"), ("top right", "bottom left")]),
        ("joined", [("yes", "no")]),
    ],
)
def test_answers_are_balanced(made, kind, pairs):
    counts = Counter(question.answer for _, question in asked(made, "short", kind, each=10))
    for one, other in pairs:
        assert counts[one] + counts[other] > 100
        assert 0.35 < counts[one] / (counts[one] + counts[other]) < 0.65, counts


def test_most_nodes_asked_for_are_there(made):
    counts = Counter(question.answer == "no" for _, question in asked(made, "short", "next"))
    assert 0.1 < counts[True] / counts.total() < 0.3
    counts = Counter(question.answer for _, question in asked(made, "short", "exist"))
    assert 0.3 < counts["no"] / counts.total() < 0.5


# ---- Sparkle's form


def test_forms_are_of_scattered_nodes_and_routes_of_both(made):
    grids = [facts for facts in made if "edges" in facts]
    assert all(WORLD.plans["forms"].only(facts) == (facts not in grids) for facts in made)
    for kind in WORLD.plans["routes"].askers:
        of = {facts["name"] for facts, _ in asked(made, "routes", kind, each=1)}
        assert of == {facts["name"] for facts in made if (facts in grids) == (kind == "path")}


def test_few_answers_in_sparkles_form_are_true(made):
    """All have the form; numbers, which are not right by chance, are right in 15 %."""
    right, count = 0, 0
    for name, family in FAMILIES.items():
        ask = WORLD.plans["forms"].askers[name][0]
        for number, facts in enumerate(filter(WORLD.plans["forms"].only, made)):
            for again in range(4):
                question = ask(facts, Random(f"{number}-{again}"))
                truth = family.ask(Configuration("", facts["nodes"]), Random(f"{number}-{again}"))
                assert bool(question) == bool(truth)
                if not question:
                    continue
                assert question.prompt.startswith(truth.question)
                assert re.fullmatch(ANSWERS[family.answer_type], question.answer)
                assert set(re.findall(r"N\d+", question.answer)) <= set(facts["nodes"])
                assert question.things == tuple(
                    list(facts["nodes"]).index(label) for label in re.findall(r"N\d+", truth.question)
                )
                if family.answer_type in ("number", "coordinates"):
                    right, count = right + (question.answer == truth.answer), count + 1
    assert count > 500 and 0.11 < right / count < 0.2


def test_paths_are_ways_along_the_lines_and_half_or_more_are_shortest(made):
    lengths = Counter()
    for facts, question in asked(made, "routes", "path"):
        way = question.answer.split(" -> ")
        assert (way[0], way[-1]) == (facts["start"], facts["end"]) and len(set(way)) == len(way)
        for one, other in zip(way, way[1:], strict=False):
            assert other in neighbours(facts, one).values()
        lengths[len(way) - 1 - lines_away(facts, way[0])[way[-1]]] += 1
    assert set(lengths) == {0, 2}  # in a grid a way is longer by an even number of lines
    assert lengths.total() > 150 and 0.5 < lengths[0] / lengths.total() < 0.85


def test_tours_visit_all_and_return(made):
    orders = set()
    for facts, question in asked(made, "routes", "tour"):
        tour = question.answer.split(" -> ")
        start = re.search(r"starts at (N\d+)", question.prompt)[1]
        assert tour[0] == tour[-1] == start and sorted(tour[1:]) == sorted(facts["nodes"])
        assert question.things == (list(facts["nodes"]).index(start),)
        orders.add(tuple(tour))
    assert len(orders) > 100
