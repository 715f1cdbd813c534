"""Describe: one query for a description of every object, a second one, shown the description, to answer."""

from spatialvlm.example import Example
from spatialvlm.prompting.strategy import Aids, Conversation, Outcome, Strategy, fill, user

PROMPTS = ("describe_1", "describe_2")


def converse(example: Example, aids: Aids) -> Conversation:
    description = yield [user(*example.images, fill("describe_1"))]
    asked = fill("describe_2", question=example.prompt, description=description)
    reply = yield [user(*example.images, asked)]
    return Outcome(reply, {"description": description, "description_empty": not description.strip()})


DESCRIBE = Strategy("describe", converse, PROMPTS)
