"""Depth map: the scene graph's two queries, with a depth map beside each picture, near things bright."""

from spatialvlm.example import Example
from spatialvlm.prompting.strategy import Aids, Conversation, Strategy
from spatialvlm.prompting.two_queries import graph_then_answer

PROMPTS = ("depth_map_1", "depth_map_2")


def converse(example: Example, aids: Aids) -> Conversation:
    return graph_then_answer(example, PROMPTS, extra=(aids.depth(example),))


DEPTH_MAP = Strategy("depth_map", converse, PROMPTS, depth=True, images=1)
