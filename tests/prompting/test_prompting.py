"""Every strategy against a scripted client: its prompts, their turns, and the outcome of the replies."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from spatialvlm.example import Example
from spatialvlm.prompting import graph, strategies
from spatialvlm.prompting.strategies import STRATEGIES
from spatialvlm.prompting.strategy import Aids, Exemplar, fill, template

ROOT = Path(__file__).resolve().parents[2]
IMAGE, SECOND, WORKED, DEPTH = (Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (10, 20, 30, 40))
EXAMPLE = Example("q1", (IMAGE,), "How many?", "(B)", "Count", ("1", "2"), prompt="How many? (A) 1 (B) 2")
TWO = Example("q2", (IMAGE, SECOND), "Which way?", "left", "ego", ("left", "right"), prompt="Which way?")
WORKED_EXAMPLE = Exemplar(Example("w1", (WORKED,), "Where?", "left", "t", prompt="Where?"), '{"objects": []}')
AIDS = Aids((WORKED_EXAMPLE, WORKED_EXAMPLE), depth=lambda example: DEPTH)
GRAPH = '{"objects": [{"id": "o1", "name": "cube", "center": [0.2, 0.5]}], "relations": []}'
ANSWER = "<answer>B</answer>"


def hold(name: str, *replies: str, example: Example = EXAMPLE, aids: Aids = AIDS):
    """(all queries, the outcome) of a conversation with a client that gives `replies` and no more."""
    conversation = STRATEGIES[name].converse(example, aids)
    queries, left = [next(conversation)], list(replies)
    while True:
        try:
            queries.append(conversation.send(left.pop(0)))
        except StopIteration as end:
            assert not left, f"{len(left)} replies were not needed"
            return queries, end.value


def laid_out(query) -> list[tuple[str, list[str]]]:
    """Roles, and of each turn the order of images and texts."""
    names = {id(IMAGE): "image", id(SECOND): "second", id(WORKED): "worked", id(DEPTH): "depth"}
    return [
        (each.role, ["text" if isinstance(part, str) else names[id(part)] for part in each.parts])
        for each in query
    ]


ONE_TURN = [("user", ["image", "text"])]


def test_direct_sends_the_benchmarks_own_prompt():
    queries, outcome = hold("direct", "B")
    assert [laid_out(query) for query in queries] == [ONE_TURN]
    assert queries[0][0].text == EXAMPLE.prompt
    assert (outcome.text, outcome.record) == ("B", {})


def test_think_asks_for_reasoning_and_tags_in_one_query():
    queries, outcome = hold("think", "There are two. " + ANSWER)
    assert [laid_out(query) for query in queries] == [ONE_TURN]
    assert queries[0][0].text == fill("think", question=EXAMPLE.prompt)
    assert outcome.text.endswith(ANSWER)


@pytest.mark.parametrize("name", ["scene_graph", "confidence", "alignment", "visualization_of_thought"])
def test_graph_strategies_ask_twice_with_the_image(name):
    queries, outcome = hold(name, f"Here it is:\n```json\n{GRAPH}\n```", ANSWER)
    assert [laid_out(query) for query in queries] == [ONE_TURN, ONE_TURN]
    first, second = STRATEGIES[name].prompts
    assert queries[0][0].text == fill(first, question=EXAMPLE.prompt)
    assert queries[1][0].text == fill(second, question=EXAMPLE.prompt, graph=GRAPH)
    assert outcome.text == ANSWER
    assert outcome.record["graph"] == GRAPH and not outcome.record["graph_broken"]


def test_a_broken_graph_goes_into_the_second_query_and_is_counted():
    broken = '{"objects": [{"id": "o1", "name": "cu'
    queries, outcome = hold("scene_graph", broken, ANSWER)
    assert broken in queries[1][0].text
    assert outcome.record == {"graph": broken, "graph_source": "raw", "graph_broken": True}
    _, outcome = hold("scene_graph", "", ANSWER)
    assert outcome.record["graph_broken"] and outcome.text == ANSWER


def test_describe_puts_the_description_into_the_second_query():
    queries, outcome = hold("describe", "A red cube.", ANSWER)
    assert [laid_out(query) for query in queries] == [ONE_TURN, ONE_TURN]
    assert queries[0][0].text == fill("describe_1") and EXAMPLE.prompt not in queries[0][0].text
    assert queries[1][0].text == fill("describe_2", question=EXAMPLE.prompt, description="A red cube.")
    assert outcome.record == {"description": "A red cube.", "description_empty": False}


def test_kshot_split_shows_answers_in_the_second_query_alone():
    queries, _ = hold("kshot_split", GRAPH, ANSWER)
    one_turn = [("user", ["worked", "text", "worked", "text", "image", "text"])]
    assert [laid_out(query) for query in queries] == [one_turn, one_turn]
    shown, answered = (query[0].parts[1] for query in queries)
    assert shown == 'Example 1: Where?\n```json\n{"objects": []}\n```'
    assert answered == f"{shown}\n<answer>left</answer>"
    assert queries[0][0].parts[3].startswith("Example 2: ")
    assert queries[1][0].parts[-1] == fill("scene_graph_2", question=EXAMPLE.prompt, graph=GRAPH)


def test_kshot_conversational_shows_the_same_examples_as_turns():
    queries, _ = hold("kshot_conversational", GRAPH, ANSWER)
    turns = [("user", ["worked", "text"]), ("assistant", ["text"])] * 2 + ONE_TURN
    assert [laid_out(query) for query in queries] == [turns, turns]
    assert [each.text for each in queries[0][:2]] == [
        fill("scene_graph_1", question="Where?"),
        '```json\n{"objects": []}\n```',
    ]
    assert [each.text for each in queries[1][:2]] == [
        fill("scene_graph_2", question="Where?", graph='{"objects": []}'),
        "<answer>left</answer>",
    ]
    assert [each.text for each in queries[0][2::2]] == ["Where?", EXAMPLE.prompt]
    assert queries[1][-1].text == fill("kshot_next_2", question=EXAMPLE.prompt, graph=GRAPH)
    assert queries[1][-1].text.endswith(f"{GRAPH}\n{EXAMPLE.prompt}")


def test_optical_flow_shows_both_images_and_counts_shifts():
    said = [{"id": "o1", "shift": -1}, {"id": "o2", "shift": 1}, {"id": "o3", "shift": 0.5}, {"id": "o4"}]
    flow = json.dumps({"objects": [*said, {"id": "o5", "shift": True}]})
    queries, outcome = hold("optical_flow", flow, ANSWER, example=TWO, aids=Aids())
    assert [laid_out(query) for query in queries] == [[("user", ["image", "second", "text"])]] * 2
    assert outcome.record["shifts"] == {"-1": 1, "0": 0, "1": 1, "other": 3}
    queries, _ = hold("optical_flow", flow, ANSWER, example=TWO)
    assert [role for role, _ in laid_out(queries[0])] == ["user", "assistant"] * 2 + ["user"]
    assert strategies.count_shifts(graph.extract("nothing")) == {"-1": 0, "0": 0, "1": 0, "other": 0}


def test_depth_map_is_the_second_image_of_both_queries():
    queries, _ = hold("depth_map", GRAPH, ANSWER)
    assert [laid_out(query) for query in queries] == [[("user", ["image", "depth", "text"])]] * 2


def test_program_of_thought_answers_with_the_programs_value():
    queries, outcome = hold("program_of_thought", GRAPH, "Sure:\n```python\nlen(objects) + 1\n```")
    assert [laid_out(query) for query in queries] == [ONE_TURN, ONE_TURN]
    assert "distance" in queries[1][0].text and GRAPH in queries[1][0].text
    assert outcome.text == "<answer>2</answer>"
    assert outcome.record["program"] == "len(objects) + 1" and outcome.record["program_status"] == "ran"


@pytest.mark.parametrize(
    ("shown", "program", "status"),
    [
        (GRAPH, "import os", "refused"),
        (GRAPH, "10**10**10", "stopped"),
        (GRAPH, "objects[7]", "failed"),
        (GRAPH, "objects", "ran"),  # a list is no answer
        ("no graph at all", "len(objects)", "no graph"),
    ],
    ids=["refused", "stopped", "failed", "no answer", "no graph"],
)
def test_a_program_without_an_answer_leaves_the_question_unparsed(shown, program, status):
    _, outcome = hold("program_of_thought", shown, f"```\n{program}\n```")
    assert (outcome.text, outcome.record["program_status"]) == ("", status)


def test_chain_of_symbols_counts_its_links():
    chain = "cube << sphere\nsphere ^^ cup"
    queries, outcome = hold("chain_of_symbols", f"```\n{chain}\n```", ANSWER)
    assert [laid_out(query) for query in queries] == [ONE_TURN, ONE_TURN]
    assert queries[1][0].text == fill("chain_of_symbols_2", question=EXAMPLE.prompt, chain=chain)
    assert outcome.record == {"chain": chain, "chain_links": 2, "chain_broken": False}
    _, outcome = hold("chain_of_symbols", "The cube is left of the sphere.", ANSWER)
    assert outcome.record["chain_broken"]


def test_visualization_of_thought_keeps_the_drawing():
    _, outcome = hold("visualization_of_thought", GRAPH, f"```\nA..\n.B.\n```\n{ANSWER}")
    assert outcome.record["drawing"] == "A..\n.B." and not outcome.record["drawing_missing"]
    _, outcome = hold("visualization_of_thought", GRAPH, ANSWER)
    assert outcome.record["drawing_missing"]


def test_confidence_is_averaged_over_valid_fractions():
    said = [{"confidence": 0.9}, {"confidence": 0.5}, {"confidence": 7}, {"confidence": "high"}, {}]
    _, outcome = hold("confidence", json.dumps({"objects": said}), ANSWER)
    assert outcome.record["mean_confidence"] == pytest.approx(0.7)
    assert outcome.record["confidence_missing"] == 3
    _, outcome = hold("confidence", "broken", ANSWER)
    assert outcome.record["mean_confidence"] is None


def test_alignment_counts_objects_whose_places_disagree():
    things = [{"id": "o1", "center": [0.1, 0.2]}, {"id": "o2", "center": [0.5, 0.5]}, {"id": ["o3"]}]
    places = [{"id": "o1", "at": [0.1, 0.2]}, {"id": "o2", "at": [0.9, 0.5]}]
    _, outcome = hold("alignment", json.dumps({"objects": things, "places": places}), ANSWER)
    assert outcome.record["misaligned"] == 2
    assert strategies.count_misaligned(graph.extract("broken")) is None


# ---- graphs out of replies


@pytest.mark.parametrize(
    ("reply", "text", "source"),
    [
        ('```json\n{"a": 1}\n```\nthen\n```json\n{"b": 2}\n```', '{"b": 2}', "fence"),
        ('```\n{"b": 2}', '{"b": 2}', "fence"),
        ('So {"a": {"b": [1]}} it is', '{"a": {"b": [1]}}', "braces"),
        ("<code>[1, 2]</code>", "[1, 2]", "code"),
        ("  [1, 2] ", "[1, 2]", "raw"),
        ('```python\nx = 1\n```\n{"a": 1}', '{"a": 1}', "braces"),
        ('<code>no</code> {"a": 1}', '{"a": 1}', "braces"),
    ],
    ids=["last fence", "open fence", "braces", "code", "raw", "broken fence", "braces before code"],
)
def test_where_a_graph_is_found(reply, text, source):
    found = graph.extract(reply)
    assert (found.text, found.source, found.broken) == (text, source, False)


@pytest.mark.parametrize(
    "reply",
    ["", "no graph", '{"a": ', "```json\n{'a': 1}\n```", '{"a": NaN}', "7", '"text"', "[" * 50_000],
    ids=["empty", "words", "cut off", "quotes", "NaN", "number", "string", "deep"],
)
def test_broken_graphs_are_kept(reply):
    found = graph.extract(reply)
    assert found.broken and found.text in reply
    assert bool(found.text) == bool(reply)


# ---- prompts


def test_every_prompt_is_used_and_every_placeholder_known():
    used = {name for strategy in STRATEGIES.values() for name in strategy.prompts}
    files = {path.stem for path in (ROOT / "spatialvlm/prompting/prompts").glob("*.txt")}
    assert used == files
    blanks = {"question", "graph", "description", "chain", "functions"}
    for name in files:
        assert set(template(name).get_identifiers()) <= blanks, name
        assert template(name).is_valid()


def test_what_a_question_holds_is_never_taken_for_a_placeholder():
    assert "costs $graph and ${x}" in fill("think", question="costs $graph and ${x}")


def test_the_documentation_quotes_the_prompts_as_they_are():
    text = (ROOT / "docs/prompting.md").read_text(encoding="utf-8")
    quoted = dict(re.findall(r"^`(\w+)\.txt`:\n\n~~~text\n(.*?)\n~~~$", text, re.M | re.S))
    files = (ROOT / "spatialvlm/prompting/prompts").glob("*.txt")
    assert quoted == {path.stem: path.read_text(encoding="utf-8").rstrip("\n") for path in files}
    for name in STRATEGIES:
        assert f"`{name}`" in text, name
