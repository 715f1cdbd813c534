"""Visualization-of-thought: a scene graph, then a map of it drawn in characters, then the answer."""

from spatialvlm.example import Example
from spatialvlm.prompting import graph
from spatialvlm.prompting.strategy import Aids, Conversation, Strategy
from spatialvlm.prompting.two_queries import graph_then_answer

PROMPTS = ("scene_graph_1", "visualization_of_thought_2")


def converse(example: Example, aids: Aids) -> Conversation:
    outcome = yield from graph_then_answer(example, PROMPTS)
    outcome.record["drawing_missing"] = "```" not in outcome.text
    if not outcome.record["drawing_missing"]:
        outcome.record["drawing"] = graph.last_block(outcome.text)
    return outcome


VISUALIZATION_OF_THOUGHT = Strategy("visualization_of_thought", converse, PROMPTS)
