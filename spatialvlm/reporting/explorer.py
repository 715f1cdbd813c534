"""The explorer's data: every test item with its pictures, and each run's answer to it.

A run says which data it asked (config.json); the questions are read from there again, and found by id and
words. Where they cannot be had, or are others by now, an item is shown without pictures, and why is said.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.evaluation.metrics import Record
from spatialvlm.example import Example, open_image
from spatialvlm.files.lazy import prefetch
from spatialvlm.reporting import questions
from spatialvlm.reporting.reading import Test

LONGEST_SIDE, QUALITY = 320, 72  # of a picture in the page, in pixels, and of its WebP
MOST_PICTURES = 8  # of one item; of a longer video as many frames, spread evenly


# ---- from tests to items


@dataclass
class Explorer:
    """What the page's script reads, and the pictures apart from it.

    `items` are questions; an item of `runs` holds, by the number of an item, [score, what was read,
    completions, numbers of other pictures that it was shown, a note].
    """

    runs: list[dict] = field(default_factory=list)
    items: list[dict] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)  # WebP
    missing: dict[str, int] = field(default_factory=dict)  # reason -> items without their pictures

    def data(self) -> dict:
        return {"runs": self.runs, "items": self.items}


def explore(tests: Sequence[Test], pictures: bool = True) -> Explorer:
    """All items of the tests with their answers.

    Args:
        pictures: False looks for no data and shows the prompts alone.
    """
    made = Explorer()
    by_source: dict[str, list[Test]] = {}
    for test in tests:
        by_source.setdefault(questions.source(test), []).append(test)
    numbers: dict[tuple[str, str, str], int] = {}  # (benchmark, id, prompt) -> item
    places: dict[str, int] = {}  # hash of a picture -> its number
    answers: dict[str, dict[int, list]] = {test.name: {} for test in tests}
    for same in by_source.values():
        found, reason = _found(same, made, places) if pictures else ({}, "left out as asked")
        for test in same:
            for record in test.records:
                key = (test.benchmark, record["id"], record["prompt"])
                if key not in numbers:
                    numbers[key] = len(made.items)
                    made.items.append(_item(test, record, found.get(record["id"]), reason))
                    if note := made.items[-1]["note"]:
                        made.missing[note] = made.missing.get(note, 0) + 1
                answers[test.name][numbers[key]] = _answer(test, record, found)
    made.runs = [
        {"name": test.name, "benchmark": test.benchmark, "kind": test.kind, "answers": answers[test.name]}
        for test in tests
    ]
    return made


@dataclass(frozen=True)
class _Question:
    """What an item needs of an example, without its pictures in full size."""

    prompt: str
    question: str
    choices: tuple[str, ...] | None
    answer: str
    images: tuple[int, ...]
    reason: str


def _found(tests: Sequence[Test], made: Explorer, places: dict[str, int]) -> tuple[dict[str, _Question], str]:
    """(the questions by id, why there are none)."""
    wanted = {
        record[name]
        for test in tests
        for record in test.records
        for name in ("id", "images_of")
        if name in record
    }
    try:
        examples = questions.questions(tests[0])
        prefetch(examples)
    except UserError as error:
        return {}, f"its data are not to be had here: {error}"
    found = {}
    for example in examples:
        if example.id in wanted:
            images, reason = _pictures(example, made, places)
            found[example.id] = _Question(
                example.prompt, example.question, example.choices, example.answer, images, reason
            )
    return found, ""


def _pictures(example: Example, made: Explorer, places: dict[str, int]) -> tuple[tuple[int, ...], str]:
    """(numbers of its pictures, why there are none)."""
    count = min(len(example.images), MOST_PICTURES)
    chosen = [example.images[number * len(example.images) // count] for number in range(count)]
    try:
        encoded = [thumbnail(open_image(image)) for image in chosen]
    except UserError as error:
        return (), f"its picture cannot be shown: {error}"
    for content in encoded:
        name = hashlib.sha256(content).hexdigest()
        if name not in places:
            places[name] = len(made.pictures)
            made.pictures.append(content)
    return tuple(places[hashlib.sha256(content).hexdigest()] for content in encoded), ""


def thumbnail(image: Image.Image) -> bytes:
    """A picture as WebP, its longer side at most `LONGEST_SIDE` pixels."""
    small = image.convert("RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "WEBP", quality=QUALITY, method=4)
    return content.getvalue()


def _item(test: Test, record: Record, question: _Question | None, reason: str) -> dict:
    same = question is not None and question.prompt == record["prompt"]
    note = reason or ("" if same else "the data hold another question of this id now, or none")
    gold = record["gold"]
    item = {
        "key": _key(test.benchmark, record),
        "benchmark": test.benchmark,
        "id": record["id"],
        "task": record["task"],
        "prompt": record["prompt"],
        "question": question.question if same else record["prompt"],
        "choices": list(question.choices) if same and question.choices else None,
        "gold": str(gold),
        "gold_choice": -1,
        "images": list(question.images) if same else [],
        "note": f"No picture: {note}." if note or (same and question.reason) else "",
    }
    if same and question.reason:
        item["note"] = f"No picture: {question.reason}."
    if item["choices"]:
        item["gold_choice"] = _gold_choice(item["choices"], question.answer)
    return item


def _key(benchmark: str, record: Record) -> str:
    """Tells an item from all others in the page's address."""
    return (
        f"{record['id']}-{hashlib.sha256(json.dumps([benchmark, record['prompt']]).encode()).hexdigest()[:8]}"
    )


def _gold_choice(choices: Sequence[str], answer: str) -> int:
    """Which choice is right, of an answer that is a letter, `(B)` or `B`, or the choice's text; -1: none."""
    if answer in choices:
        return list(choices).index(answer)
    letter = answer.strip("(). ")
    return ord(letter) - ord("A") if len(letter) == 1 and "A" <= letter <= "Z" else -1


def _answer(test: Test, record: Record, found: Mapping[str, _Question]) -> list:
    score = record.get("score", float(record["correct"]))
    parsed = record["parsed"]
    said = [None if each is None else str(each) for each in parsed] if isinstance(parsed, list) else parsed
    said = said if said is None or isinstance(said, list) else str(said)
    answer = [int(score) if score in (0, 1) else round(score, 4), said, record["completions"]]
    if "images_of" in record:
        giver = found.get(record["images_of"])
        return [
            *answer,
            list(giver.images) if giver else [],
            f"Was shown the image of {record['images_of']}.",
        ]
    return [*answer, [], "Was shown a grey image."] if test.control == "blank" else answer


# ---- into the page


def script_text(content: Any) -> str:
    """JSON that may stand in a script element: it holds no tag."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace(
        "<", "\\u003c"
    )


def image_blocks(pictures: Sequence[bytes]) -> str:
    """One block of text a picture, which the browser keeps as it is until the picture is looked at."""
    return "\n".join(
        f'<script type="text/plain" id="image-{number}" data-type="data:image/webp;base64,">'
        f"{base64.b64encode(content).decode('ascii')}</script>"
        for number, content in enumerate(pictures)
    )
