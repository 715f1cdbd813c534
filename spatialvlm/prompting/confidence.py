"""Confidence: a scene graph in which every object and relation says how sure the model is, from 0 to 1."""

from typing import Any

from spatialvlm.example import Example
from spatialvlm.prompting import graph
from spatialvlm.prompting.strategy import Aids, Conversation, Strategy
from spatialvlm.prompting.two_queries import graph_then_answer

PROMPTS = ("confidence_1", "confidence_2")


def converse(example: Example, aids: Aids) -> Conversation:
    outcome = yield from graph_then_answer(example, PROMPTS)
    said = [each.get("confidence") for each in graph.objects(graph.extract(outcome.record["graph"]))]
    sure = [value for value in said if _is_share(value)]
    outcome.record["mean_confidence"] = sum(sure) / len(sure) if sure else None
    outcome.record["confidence_missing"] = len(said) - len(sure)
    return outcome


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


CONFIDENCE = Strategy("confidence", converse, PROMPTS)
