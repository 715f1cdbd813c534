"""The thirteen prompting strategies, by name in `STRATEGIES`; their prompts are in prompts/*.txt.

Most ask for a scene graph in a first query and, shown that graph, for the answer in a second one.
"""

from collections.abc import Callable
from typing import Any, Literal

from spatialvlm.example import Example
from spatialvlm.prompting import graph, program
from spatialvlm.prompting.strategy import (
    Aids,
    Conversation,
    Exemplar,
    Message,
    Outcome,
    Part,
    Strategy,
    assistant,
    fill,
    user,
)

STRATEGIES: dict[str, Strategy] = {}
SYMBOLS = ("<<", "^^", "@@", "==")  # left of, above, in front of, the same kind as
SHIFTS = (-1, 0, 1)


def strategy(
    *prompts: str,
    exemplars: Literal["none", "some", "needed"] = "none",
    depth: bool = False,
    images: int | None = None,
) -> Callable:
    """Register a conversation under its function's name; the arguments are those of `Strategy`."""

    def register(converse: Callable[[Example, Aids], Conversation]) -> Callable:
        name = converse.__name__
        STRATEGIES[name] = Strategy(name, converse, prompts, exemplars, depth, images)
        return converse

    return register


@strategy()
def direct(example: Example, aids: Aids) -> Conversation:
    """The benchmark's own prompt alone: the baseline of the others."""
    return Outcome((yield [user(*example.images, example.prompt)]))


@strategy("think")
def think(example: Example, aids: Aids) -> Conversation:
    """One query for reasoning and then the answer between tags."""
    return Outcome((yield [user(*example.images, fill("think", question=example.prompt))]))


@strategy("scene_graph_1", "scene_graph_2")
def scene_graph(example: Example, aids: Aids) -> Conversation:
    """A graph of the objects that matter, then the answer."""
    return _graph_then_answer(example, "scene_graph_1", "scene_graph_2")


@strategy("describe_1", "describe_2")
def describe(example: Example, aids: Aids) -> Conversation:
    """A description of every object, then the answer; the first query does not hold the question."""
    description = yield [user(*example.images, fill("describe_1"))]
    prompt = fill("describe_2", question=example.prompt, description=description)
    reply = yield [user(*example.images, prompt)]
    return Outcome(reply, {"description": description, "description_empty": not description.strip()})


@strategy("scene_graph_1", "scene_graph_2", exemplars="needed")
def kshot_split(example: Example, aids: Aids) -> Conversation:
    """Examples in the user's turn: without answers in the first query, with them in the second."""
    prompt = fill("scene_graph_1", question=example.prompt)
    found = graph.extract((yield [user(*_listed(aids, answers=False), *example.images, prompt)]))
    prompt = fill("scene_graph_2", question=example.prompt, graph=found.text)
    reply = yield [user(*_listed(aids, answers=True), *example.images, prompt)]
    return Outcome(reply, found.record())


@strategy("scene_graph_1", "scene_graph_2", "kshot_next_1", "kshot_next_2", exemplars="needed")
def kshot_conversational(example: Example, aids: Aids) -> Conversation:
    """The same examples as turns of user and assistant before the question."""
    return _graph_then_answer_in_turns(example, "scene_graph_1", "scene_graph_2", aids)


@strategy("optical_flow_1", "optical_flow_2", "kshot_next_1", "kshot_next_2", exemplars="some", images=2)
def optical_flow(example: Example, aids: Aids) -> Conversation:
    """For two images: the graph holds each object's shift between them as -1, 0 or 1."""
    outcome = yield from _graph_then_answer_in_turns(example, "optical_flow_1", "optical_flow_2", aids)
    outcome.record["shifts"] = count_shifts(graph.extract(outcome.record["graph"]))
    return outcome


@strategy("scene_graph_1", "program_of_thought_2")
def program_of_thought(example: Example, aids: Aids) -> Conversation:
    """A scene graph, then a short program over it, whose value is the answer.

    Where the program is refused, stopped or fails, or the graph is broken, there is no answer: unparsed, and
    wrong.
    """
    prompt = fill("scene_graph_1", question=example.prompt)
    found = graph.extract((yield [user(*example.images, prompt)]))
    functions = ", ".join(sorted(program.FUNCTIONS))
    prompt = fill("program_of_thought_2", question=example.prompt, graph=found.text, functions=functions)
    source = graph.last_block((yield [user(*example.images, prompt)]))
    record = found.record() | {"program": source}
    if found.broken:
        return Outcome("", record | {"program_status": "no graph", "program_message": ""})
    result = program.run(source, found.value)
    record |= {"program_status": result.status, "program_message": result.message}
    answer = program.to_answer(result.value) if result.status == "ran" else ""
    return Outcome(f"<answer>{answer}</answer>" if answer else "", record)


@strategy("chain_of_symbols_1", "chain_of_symbols_2")
def chain_of_symbols(example: Example, aids: Aids) -> Conversation:
    """Relations as chains of symbols in place of the graph, then the answer."""
    reply = yield [user(*example.images, fill("chain_of_symbols_1", question=example.prompt))]
    chain = graph.last_block(reply)
    links = sum(any(symbol in line for symbol in SYMBOLS) for line in chain.splitlines())
    reply = yield [user(*example.images, fill("chain_of_symbols_2", question=example.prompt, chain=chain))]
    return Outcome(reply, {"chain": chain, "chain_links": links, "chain_broken": not links})


@strategy("scene_graph_1", "visualization_of_thought_2")
def visualization_of_thought(example: Example, aids: Aids) -> Conversation:
    """A scene graph, then a map of it in characters and the answer."""
    outcome = yield from _graph_then_answer(example, "scene_graph_1", "visualization_of_thought_2")
    outcome.record["drawing_missing"] = "```" not in outcome.text
    if not outcome.record["drawing_missing"]:
        outcome.record["drawing"] = graph.last_block(outcome.text)
    return outcome


@strategy("depth_map_1", "depth_map_2", depth=True, images=1)
def depth_map(example: Example, aids: Aids) -> Conversation:
    """The scene graph's two queries, with a depth map beside the image."""
    return _graph_then_answer(example, "depth_map_1", "depth_map_2", aids.depth(example))


@strategy("confidence_1", "confidence_2")
def confidence(example: Example, aids: Aids) -> Conversation:
    """A scene graph in which every object and relation has a confidence from 0 to 1."""
    outcome = yield from _graph_then_answer(example, "confidence_1", "confidence_2")
    values = [each.get("confidence") for each in graph.objects(graph.extract(outcome.record["graph"]))]
    valid = [value for value in values if _is_fraction(value)]
    outcome.record["mean_confidence"] = sum(valid) / len(valid) if valid else None
    outcome.record["confidence_missing"] = len(values) - len(valid)
    return outcome


@strategy("alignment_1", "alignment_2")
def alignment(example: Example, aids: Aids) -> Conversation:
    """Coordinate-object alignment: the graph lists places by object and objects by place."""
    outcome = yield from _graph_then_answer(example, "alignment_1", "alignment_2")
    outcome.record["misaligned"] = count_misaligned(graph.extract(outcome.record["graph"]))
    return outcome


# ---- frames of several strategies


def _graph_then_answer(example: Example, first: str, second: str, *extra: Part) -> Conversation:
    """Two queries with the images (and `extra`): the graph, broken or not, then the answer."""
    shown = (*example.images, *extra)
    found = graph.extract((yield [user(*shown, fill(first, question=example.prompt))]))
    reply = yield [user(*shown, fill(second, question=example.prompt, graph=found.text))]
    return Outcome(reply, found.record())


def _graph_then_answer_in_turns(example: Example, first: str, second: str, aids: Aids) -> Conversation:
    """The same two queries with the examples as turns of user and assistant before the question."""

    def turns(name: str, later: str, graph_text: str, answer: Callable[[Exemplar], str]) -> list[Message]:
        """Turns: the first, by prompt `name`, holds the instruction; `later` ones follow its pattern."""
        done: list[Message] = []
        for each in aids.exemplars:
            prompt = fill(later if done else name, question=each.example.prompt, graph=each.graph)
            done += [user(*each.example.images, prompt), assistant(answer(each))]
        prompt = fill(later if done else name, question=example.prompt, graph=graph_text)
        return [*done, user(*example.images, prompt)]

    found = graph.extract((yield turns(first, "kshot_next_1", "", lambda each: _fenced(each.graph))))
    reply = yield turns(second, "kshot_next_2", found.text, lambda each: _tagged(each.example))
    return Outcome(reply, found.record())


def _listed(aids: Aids, answers: bool) -> list[Part]:
    """Images and text of each example in turn."""
    parts: list[Part] = []
    for number, exemplar in enumerate(aids.exemplars, start=1):
        lines = [f"Example {number}: {exemplar.example.prompt}", _fenced(exemplar.graph)]
        lines += [_tagged(exemplar.example)] if answers else []
        parts += [*exemplar.example.images, "\n".join(lines)]
    return parts


def _fenced(text: str) -> str:
    return f"```json\n{text}\n```"


def _tagged(example: Example) -> str:
    return f"<answer>{example.answer}</answer>"


# ---- measurements of graphs


def count_shifts(found: graph.Graph) -> dict[str, int]:
    """Number of objects with each shift; `other` counts those with none or an invalid one."""
    counts = {str(shift): 0 for shift in SHIFTS} | {"other": 0}
    for each in graph.objects(found):
        shift = each.get("shift")
        counts[str(shift) if type(shift) is int and shift in SHIFTS else "other"] += 1
    return counts


def count_misaligned(found: graph.Graph) -> int | None:
    """Number of objects in one list alone or at another place in the other; None for a broken graph."""
    if found.broken:
        return None
    places = found.value.get("places") if isinstance(found.value, dict) else None
    places = places if isinstance(places, list) else []
    # repr: a model may write lists where names belong, and those have no hash
    forth = {(repr(each.get("id")), repr(each.get("center"))) for each in graph.objects(found)}
    back = {(repr(each.get("id")), repr(each.get("at"))) for each in places if isinstance(each, dict)}
    return len({id for id, _ in forth ^ back})


def _is_fraction(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
