"""Interface of strategies, and of the clients that answer their queries.

A strategy is a generator: it yields the messages of a query, which are the whole conversation so far,
receives the reply, and at the end returns the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Literal, Protocol, TypeAlias

from PIL import Image

from spatialvlm.example import Example, without_image_tokens

Part: TypeAlias = str | Image.Image | Path  # a text, or an image that is opened when needed


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: texts and images in the order shown."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]

    @property
    def images(self) -> tuple[Image.Image | Path, ...]:
        return tuple(part for part in self.parts if not isinstance(part, str))

    @property
    def text(self) -> str:
        return "\n".join(part for part in self.parts if isinstance(part, str))


def user(*parts: Part) -> Message:
    """A user's turn. Tokens that stand for images are taken off its texts, which may quote replies."""
    texts = (without_image_tokens(part) if isinstance(part, str) else part for part in parts)
    return Message("user", tuple(texts))


def assistant(text: str) -> Message:
    return Message("assistant", (without_image_tokens(text),))


@dataclass(frozen=True)
class Outcome:
    """End of a conversation.

    Args:
        text: text from which the benchmark's rule parses the answer; empty where there is none.
        record: what else to keep, as JSON: the graph, whether it was broken, the program's status.
    """

    text: str
    record: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exemplar:
    """A worked example: a question with its answer and scene graph, in JSON."""

    example: Example
    graph: str


@dataclass(frozen=True)
class Aids:
    """What some strategies need besides the question.

    Args:
        exemplars: the k examples of k-shot prompting.
        depth: returns an example's depth map, grey, near objects bright.
    """

    exemplars: tuple[Exemplar, ...] = ()
    depth: Callable[[Example], Image.Image] | None = None


Conversation = Generator[list[Message], str, Outcome]


@dataclass(frozen=True)
class Strategy:
    """A prompting strategy.

    Args:
        name: as on the command line.
        converse: begins the conversation about an example.
        prompts: names of its files in `prompts/`, in the order of its queries.
        exemplars: number of worked examples it takes: `none`, `some` (0 or more) or `needed` (1 or more).
        depth: whether it needs depth maps.
        images: number of images that a question must have; any number where None.
    """

    name: str
    converse: Callable[[Example, Aids], Conversation]
    prompts: tuple[str, ...] = ()
    exemplars: Literal["none", "some", "needed"] = "none"
    depth: bool = False
    images: int | None = None


FAILED = "failed"  # a reply that ended in an error, without a text
# Why a query has no reply: `too long` for the context, `too large` for a request, ..., `refused` for another
# reason. A server may be sent such a query again.
REFUSED = ("too long", "too large", "invalid image", "filtered", "refused", FAILED)


@dataclass(frozen=True)
class Reply:
    """An answer to one query.

    Args:
        text: the answer; empty where there is none.
        finish: `stop`, `length` where it was cut off at the maximum length, `content_filter`, another reason
            that a server gives, or, where the query has no reply, one of `REFUSED`.
        prompt_tokens, completion_tokens: as the model, or the server's bill, counts them; None where a server
            does not say.
        thoughts: what a server sends apart from the answer as the model's reasoning.
        refusal: what the model, or the server, says instead of an answer.
        without: parameters of the request that the server does not take.
    """

    text: str
    finish: str
    prompt_tokens: int | None
    completion_tokens: int | None
    thoughts: str = ""
    refusal: str = ""
    without: tuple[str, ...] = ()


def missing(text: str, finish: str) -> str | None:
    """Why a reply is no answer: one of `REFUSED`, `declined` by the model, `empty`; None where it is one."""
    if finish in REFUSED:
        return finish
    if text.strip():
        return None
    return {"content_filter": "filtered", "refusal": "declined"}.get(finish, "empty")


@dataclass(frozen=True)
class Dialogue:
    """A finished conversation: its outcome and the replies on the way."""

    outcome: Outcome
    replies: tuple[Reply, ...]


class Client(Protocol):
    """A local model (`local`) or a server (`server`).

    `patience`: number of questions, the first of a study, that may be refused for the same reason.
    """

    patience: float

    def talk(
        self, conversations: Iterable[tuple[str, Conversation]]
    ) -> Generator[tuple[str, Dialogue], None, None]:
        """Hold all conversations, (id, conversation), and yield each as it ends, in any order."""

    def facts(self) -> dict[str, int]:
        """Counts of the session, for the summary."""


@cache
def template(name: str) -> Template:
    """The text of `prompts/<name>.txt`, with its placeholders `$question`, `$graph`, ..."""
    text = (Path(__file__).parent / "prompts" / f"{name}.txt").read_text(encoding="utf-8")
    return Template(text.rstrip("\n"))


def fill(name: str, **values: str) -> str:
    """The prompt `name` with its placeholders filled in. Raises KeyError where one is missing."""
    return template(name).substitute(values)
