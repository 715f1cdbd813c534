"""Think, then answer: one query that asks for reasoning and then for the answer between tags."""

from spatialvlm.example import Example
from spatialvlm.prompting.strategy import Aids, Conversation, Outcome, Strategy, fill, user


def converse(example: Example, aids: Aids) -> Conversation:
    return Outcome((yield [user(*example.images, fill("think", question=example.prompt))]))


THINK = Strategy("think", converse, ("think",))
