"""What every strategy is: a conversation that yields messages, is sent the reply, and returns the answer.

    def converse(example, aids):
        reply = yield [user(*example.images, "...")]      # one query
        reply = yield [user(*example.images, "...", reply)]    # as many as it takes
        return Outcome(reply)

A query holds the whole conversation so far: whoever answers remembers nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Literal

from PIL import Image

from spatialvlm.example import Example

Part = str | Image.Image | Path  # a text, or a picture that is opened when it is needed


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: texts and pictures in the order in which they are shown."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]

    @property
    def images(self) -> tuple[Image.Image | Path, ...]:
        return tuple(part for part in self.parts if not isinstance(part, str))

    @property
    def text(self) -> str:
        return "\n".join(part for part in self.parts if isinstance(part, str))


def user(*parts: Part) -> Message:
    return Message("user", parts)


def assistant(text: str) -> Message:
    return Message("assistant", (text,))


@dataclass(frozen=True)
class Outcome:
    """How a conversation ended.

    Args:
        text: what the benchmark's rule reads the answer out of; empty where there is none, which is wrong.
        record: what else is to be kept, as JSON: the graph, whether it was broken, what the program did.
    """

    text: str
    record: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exemplar:
    """A worked example: a question with its right answer and a right scene graph, in JSON."""

    example: Example
    graph: str


@dataclass(frozen=True)
class Aids:
    """What some strategies need beside the question.

    Args:
        exemplars: the k examples of k-shot prompting.
        depth: gives an example's depth map, grey, near things bright.
    """

    exemplars: tuple[Exemplar, ...] = ()
    depth: Callable[[Example], Image.Image] | None = None


Conversation = Generator[list[Message], str, Outcome]


@dataclass(frozen=True)
class Strategy:
    """A way of asking.

    Args:
        name: as on the command line.
        converse: begins the conversation about an example.
        prompts: the names of its files in `prompts/`, in the order of its queries.
        exemplars: whether it can take examples: `none`, `some` (0 or more) or `needed` (1 or more).
        depth: whether it needs depth maps.
        images: how many pictures a question must have; any number where None.
    """

    name: str
    converse: Callable[[Example, Aids], Conversation]
    prompts: tuple[str, ...] = ()
    exemplars: Literal["none", "some", "needed"] = "none"
    depth: bool = False
    images: int | None = None


@cache
def template(name: str) -> Template:
    """The text of `prompts/<name>.txt`, with `$question`, `$graph` and the like to be filled in."""
    text = (Path(__file__).parent / "prompts" / f"{name}.txt").read_text(encoding="utf-8")
    return Template(text.rstrip("\n"))


def fill(name: str, **values: str) -> str:
    """The prompt `name` with its blanks filled in. Raises KeyError where one is missing."""
    return template(name).substitute(values)
