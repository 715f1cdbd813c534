"""The frame of all strategies that ask for a scene graph first and, shown it, for the answer."""

from __future__ import annotations

from spatialvlm.example import Example
from spatialvlm.prompting import graph
from spatialvlm.prompting.graph import Graph
from spatialvlm.prompting.strategy import (
    Aids,
    Conversation,
    Exemplar,
    Message,
    Outcome,
    Part,
    assistant,
    fill,
    user,
)


def graph_then_answer(
    example: Example, prompts: tuple[str, str], extra: tuple[Part, ...] = ()
) -> Conversation:
    """Two queries with the pictures (and `extra`): the graph, then the answer. A broken graph is kept."""
    first, second = prompts
    shown = (*example.images, *extra)
    found = graph.extract((yield [user(*shown, fill(first, question=example.prompt))]))
    reply = yield [user(*shown, fill(second, question=example.prompt, graph=found.text))]
    return Outcome(reply, found.record())


def as_turns(example: Example, prompts: tuple[str, str], aids: Aids) -> Conversation:
    """The same with examples as turns of user and assistant before the question, in both queries.

    The instruction stands in every turn of the user, so that all turns are of one form.
    """
    first, second = prompts

    def turns(make) -> list[Message]:
        return [message for exemplar in aids.exemplars for message in make(exemplar)]

    def shown(exemplar: Exemplar) -> tuple[Message, Message]:
        asked = fill(first, question=exemplar.example.prompt)
        return user(*exemplar.example.images, asked), assistant(fenced(exemplar.graph))

    def answered(exemplar: Exemplar) -> tuple[Message, Message]:
        asked = fill(second, question=exemplar.example.prompt, graph=exemplar.graph)
        return user(*exemplar.example.images, asked), assistant(tagged(exemplar.example))

    asked = user(*example.images, fill(first, question=example.prompt))
    found: Graph = graph.extract((yield [*turns(shown), asked]))
    asked = user(*example.images, fill(second, question=example.prompt, graph=found.text))
    reply = yield [*turns(answered), asked]
    return Outcome(reply, found.record())


def fenced(text: str) -> str:
    return f"```json\n{text}\n```"


def tagged(example: Example) -> str:
    """The right answer as it is asked for."""
    return f"<answer>{example.answer}</answer>"
