"""k-shot, conversational: the same k examples as turns of user and assistant before the question."""

from spatialvlm.example import Example
from spatialvlm.prompting.strategy import Aids, Conversation, Strategy
from spatialvlm.prompting.two_queries import NEXT, as_turns

PROMPTS = ("scene_graph_1", "scene_graph_2")


def converse(example: Example, aids: Aids) -> Conversation:
    return as_turns(example, PROMPTS, aids)


KSHOT_CONVERSATIONAL = Strategy("kshot_conversational", converse, PROMPTS + NEXT, exemplars="needed")
