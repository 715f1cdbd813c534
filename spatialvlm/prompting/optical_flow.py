"""Optical flow, for two pictures: the graph holds each object's shift between them as -1, 0 or 1.

With examples (`--shots 5`) they come as turns of a conversation: the best published row on SAT.
"""

from typing import Any

from spatialvlm.example import Example
from spatialvlm.prompting import graph
from spatialvlm.prompting.strategy import Aids, Conversation, Strategy
from spatialvlm.prompting.two_queries import NEXT, as_turns

PROMPTS = ("optical_flow_1", "optical_flow_2")
SHIFTS = (-1, 0, 1)


def converse(example: Example, aids: Aids) -> Conversation:
    outcome = yield from as_turns(example, PROMPTS, aids)
    outcome.record["shifts"] = shifts(graph.extract(outcome.record["graph"]))
    return outcome


def shifts(found: graph.Graph) -> dict[str, int]:
    """How many objects have each shift, and how many none that is allowed (`other`)."""
    counts = {str(shift): 0 for shift in SHIFTS} | {"other": 0}
    for each in graph.objects(found):
        counts[_shift(each.get("shift"))] += 1
    return counts


def _shift(value: Any) -> str:
    return str(value) if type(value) is int and value in SHIFTS else "other"


OPTICAL_FLOW = Strategy("optical_flow", converse, PROMPTS + NEXT, exemplars="some", images=2)
