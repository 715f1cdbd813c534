"""Scene graph: one query for a graph of the objects that matter, a second one, shown the graph, to answer."""

from spatialvlm.example import Example
from spatialvlm.prompting.strategy import Aids, Conversation, Strategy
from spatialvlm.prompting.two_queries import graph_then_answer

PROMPTS = ("scene_graph_1", "scene_graph_2")


def converse(example: Example, aids: Aids) -> Conversation:
    return graph_then_answer(example, PROMPTS)


SCENE_GRAPH = Strategy("scene_graph", converse, PROMPTS)
