"""The question as the benchmark puts it, and nothing else: what the other strategies are compared with."""

from spatialvlm.example import Example
from spatialvlm.prompting.strategy import Aids, Conversation, Outcome, Strategy, user


def converse(example: Example, aids: Aids) -> Conversation:
    return Outcome((yield [user(*example.images, example.prompt)]))


DIRECT = Strategy("direct", converse)
