"""Scene graphs out of replies, as paper A takes them: last fenced block, braces, code tags, raw text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

_FENCED = re.compile(r"```[^\n`]*\n(.*?)```", re.S)
_OPEN_FENCE = re.compile(r"```[^\n`]*\n(.*)\Z", re.S)  # a reply that was cut off before the closing fence
_CODE = re.compile(r"<code>(.*?)(?:</code>|\Z)", re.S | re.I)


@dataclass(frozen=True)
class Graph:
    """A scene graph as a reply gives it.

    Args:
        text: the graph as written, broken or not; it goes into the second query.
        value: what the JSON says, a dict or a list; None where the graph is broken.
        source: `fence`, `braces`, `code` or `raw`: where in the reply it stood.
    """

    text: str
    value: dict[str, Any] | list[Any] | None
    source: str

    @property
    def broken(self) -> bool:
        return self.value is None

    def record(self) -> dict[str, Any]:
        return {"graph": self.text, "graph_source": self.source, "graph_broken": self.broken}


def extract(reply: str) -> Graph:
    """The graph in a reply: of the places in their order the first that holds JSON, an object or a list.

    Where none does, the first place that is there is the graph, and it is broken; an empty reply is a broken
    graph too. Numbers that JSON does not know (NaN, Infinity) break a graph.
    """
    places = list(_places(reply))
    for source, text in places:
        if (value := parse(text)) is not None:
            return Graph(text, value, source)
    source, text = places[0]
    return Graph(text, None, source)


def _places(reply: str) -> Iterator[tuple[str, str]]:
    if found := _FENCED.findall(reply) or _OPEN_FENCE.findall(reply):
        yield "fence", found[-1].strip()
    if "{" in reply and (end := reply.rfind("}")) > (start := reply.index("{")):
        yield "braces", reply[start : end + 1]
    if found := _CODE.findall(reply):
        yield "code", found[-1].strip()
    yield "raw", reply.strip()


def last_block(reply: str) -> str:
    """A program or drawing in a reply: the last fenced block, else the last code tags, else all of it."""
    for pattern in (_FENCED, _OPEN_FENCE, _CODE):
        if found := pattern.findall(reply):
            return found[-1].strip("\n")
    return reply.strip()


def parse(text: str) -> dict[str, Any] | list[Any] | None:
    """What JSON says; None where it is broken, or neither an object nor a list."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):  # RecursionError: nested thousands deep
        return None
    return value if isinstance(value, dict | list) else None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def objects(graph: Graph) -> list[dict[str, Any]]:
    """The objects of a graph that is not broken: `objects` of a JSON object, or the list itself."""
    listed = graph.value.get("objects", []) if isinstance(graph.value, dict) else graph.value
    return [each for each in listed or [] if isinstance(each, dict)] if isinstance(listed, list) else []
