"""k-shot, split: k examples in the user's turn, without answers in the first query, then with them."""

from spatialvlm.example import Example
from spatialvlm.prompting import graph
from spatialvlm.prompting.strategy import Aids, Conversation, Outcome, Part, Strategy, fill, user
from spatialvlm.prompting.two_queries import fenced, tagged

PROMPTS = ("scene_graph_1", "scene_graph_2")


def converse(example: Example, aids: Aids) -> Conversation:
    asked = fill("scene_graph_1", question=example.prompt)
    found = graph.extract((yield [user(*_examples(aids, answers=False), *example.images, asked)]))
    asked = fill("scene_graph_2", question=example.prompt, graph=found.text)
    reply = yield [user(*_examples(aids, answers=True), *example.images, asked)]
    return Outcome(reply, found.record())


def _examples(aids: Aids, answers: bool) -> list[Part]:
    """Picture(s) and text of each example in turn."""
    parts: list[Part] = []
    for number, exemplar in enumerate(aids.exemplars, start=1):
        lines = [f"Example {number}: {exemplar.example.prompt}", fenced(exemplar.graph)]
        if answers:
            lines.append(tagged(exemplar.example))
        parts += [*exemplar.example.images, "\n".join(lines)]
    return parts


KSHOT_SPLIT = Strategy("kshot_split", converse, PROMPTS, exemplars="needed")
