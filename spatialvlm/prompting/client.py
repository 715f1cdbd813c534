"""What answers a study's queries, whoever it is: a local model (`local`) or a server (`server`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from spatialvlm.prompting.strategy import Conversation, Outcome


@dataclass(frozen=True)
class Reply:
    """An answer to one query.

    Args:
        finish: `stop` where the model had said all, `length` where it was cut off at the greatest length,
            `too long` where the query left no room for a reply: its text is empty.
        prompt_tokens, completion_tokens: as the model, or the server's bill, counts them.
        from_cache: it was asked for before, and cost nothing now.
    """

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    from_cache: bool = False


@dataclass(frozen=True)
class Talk:
    """A whole conversation: how it ended, and the replies on the way."""

    outcome: Outcome
    replies: tuple[Reply, ...]


class Client(Protocol):
    def talk(self, conversations: Iterable[tuple[str, Conversation]]) -> Iterator[tuple[str, Talk]]:
        """Holds all conversations, (id, conversation), and yields each as it ends, in any order."""
        ...

    def facts(self) -> dict:
        """What it measured of itself, for the summary."""
        ...
