"""The frame of all strategies that ask for a scene graph first and, shown it, for the answer."""

from __future__ import annotations

from spatialvlm.example import Example
from spatialvlm.prompting import graph
from spatialvlm.prompting.strategy import (
    Aids,
    Conversation,
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


NEXT = ("kshot_next_1", "kshot_next_2")  # what later turns of the user say


def as_turns(example: Example, prompts: tuple[str, str], aids: Aids) -> Conversation:
    """The same with examples as turns of user and assistant before the question, in both queries.

    The first turn of the user has the instruction; the form of the later ones follows from those before.
    """
    turns: list[Message] = []
    for exemplar in aids.exemplars:
        asked = fill(NEXT[0] if turns else prompts[0], question=exemplar.example.prompt)
        turns += [user(*exemplar.example.images, asked), assistant(fenced(exemplar.graph))]
    asked = fill(NEXT[0] if turns else prompts[0], question=example.prompt)
    found = graph.extract((yield [*turns, user(*example.images, asked)]))
    turns = []
    for exemplar in aids.exemplars:
        shown = {"question": exemplar.example.prompt, "graph": exemplar.graph}
        asked = fill(NEXT[1] if turns else prompts[1], **shown)
        turns += [user(*exemplar.example.images, asked), assistant(tagged(exemplar.example))]
    asked = fill(NEXT[1] if turns else prompts[1], question=example.prompt, graph=found.text)
    reply = yield [*turns, user(*example.images, asked)]
    return Outcome(reply, found.record())


def fenced(text: str) -> str:
    return f"```json\n{text}\n```"


def tagged(example: Example) -> str:
    """The right answer as it is asked for."""
    return f"<answer>{example.answer}</answer>"
