"""Coordinate-object alignment, both ways: the graph says where each object is, and what is at each place.

The two lists must tell the same; how many objects disagree is recorded.
"""

from typing import Any

from spatialvlm.example import Example
from spatialvlm.prompting import graph
from spatialvlm.prompting.strategy import Aids, Conversation, Strategy
from spatialvlm.prompting.two_queries import graph_then_answer

PROMPTS = ("alignment_1", "alignment_2")


def converse(example: Example, aids: Aids) -> Conversation:
    outcome = yield from graph_then_answer(example, PROMPTS)
    outcome.record["misaligned"] = misaligned(graph.extract(outcome.record["graph"]))
    return outcome


def misaligned(found: graph.Graph) -> int | None:
    """How many objects stand in one list alone, or at another place in the other; None for a broken graph."""
    if found.broken:
        return None
    places = found.value.get("places") if isinstance(found.value, dict) else None
    places = places if isinstance(places, list) else []
    there = {(_text(each.get("id")), _text(each.get("center"))) for each in graph.objects(found)}
    back = {(_text(each.get("id")), _text(each.get("at"))) for each in places if isinstance(each, dict)}
    return len({id for id, _ in there ^ back})


def _text(value: Any) -> str:
    return repr(value)  # lists as well as names can then be compared, whatever a model wrote there


ALIGNMENT = Strategy("alignment", converse, PROMPTS)
