"""The explorer's data: every test item with its images, and each run's answer to it.

A run records where its rows came from (config.json); they are loaded from there again and matched by id and
prompt. Where they are not available, or have changed, the items are shown without images, with the reason.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.evaluation.metrics import Record
from spatialvlm.example import Example
from spatialvlm.files.lazy import prefetch
from spatialvlm.images import open_image
from spatialvlm.reporting.runs import Test

LONGEST_SIDE, QUALITY = 320, 72  # of an image in the page: pixels, and WebP quality
MAX_IMAGES = 8  # per item; of a longer video as many frames, evenly spread


# ---- from tests to items


@dataclass
class Explorer:
    """What the page's script reads, and the images apart from it.

    `items` are questions. A run of `runs` has, by an item's number, [score, parsed answer, completions,
    numbers of other images that it was shown, a note].
    """

    runs: list[dict] = field(default_factory=list)
    items: list[dict] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)  # WebP
    missing: dict[str, int] = field(default_factory=dict)  # reason -> items without their images

    def data(self) -> dict:
        return {"runs": self.runs, "items": self.items}


@dataclass(frozen=True)
class _Question:
    """What an item needs of an example; `images` are numbers of an explorer's images."""

    prompt: str
    question: str
    choices: tuple[str, ...] | None
    answer: str
    images: tuple[int, ...]
    reason: str  # why there are no images


def explore(tests: Sequence[Test], images: bool = True) -> Explorer:
    """Return all items of the tests with their answers.

    Args:
        tests: of any benchmarks.
        images: False loads no data and shows the prompts alone.
    """
    explorer = Explorer()
    by_source: dict[str, list[Test]] = {}
    for test in tests:
        by_source.setdefault(test.source, []).append(test)
    numbers: dict[tuple[str, str, str], int] = {}  # (benchmark, id, prompt) -> item
    hashes: dict[str, int] = {}  # of an image -> its number
    answers: dict[str, dict[int, list]] = {test.name: {} for test in tests}
    for same in by_source.values():
        by_id, reason = _questions(same, explorer, hashes) if images else ({}, "left out as requested")
        for test in same:
            for record in test.records:
                key = (test.benchmark, record["id"], record["prompt"])
                if key not in numbers:
                    numbers[key] = len(explorer.items)
                    explorer.items.append(_item(test, record, by_id.get(record["id"]), reason))
                    if note := explorer.items[-1]["note"]:
                        explorer.missing[note] = explorer.missing.get(note, 0) + 1
                answers[test.name][numbers[key]] = _answer(test, record, by_id)
    explorer.runs = [
        {"name": test.name, "benchmark": test.benchmark, "kind": test.kind, "answers": answers[test.name]}
        for test in tests
    ]
    return explorer


def _questions(
    tests: Sequence[Test], explorer: Explorer, hashes: dict[str, int]
) -> tuple[dict[str, _Question], str]:
    """Load the questions of tests with the same rows, by id; or the reason why there are none."""
    records = [record for test in tests for record in test.records]
    wanted = {record[name] for record in records for name in ("id", "images_of") if name in record}
    try:
        examples = tests[0].questions()
        prefetch(examples)
    except UserError as error:
        return {}, f"its data are not available here: {error}"
    by_id = {}
    for example in examples:
        if example.id in wanted:
            images, reason = _images(example, explorer, hashes)
            by_id[example.id] = _Question(
                example.prompt, example.question, example.choices, example.answer, images, reason
            )
    return by_id, ""


def _images(example: Example, explorer: Explorer, hashes: dict[str, int]) -> tuple[tuple[int, ...], str]:
    """Add an example's images; return their numbers, or the reason why there are none."""
    count = min(len(example.images), MAX_IMAGES)
    chosen = [example.images[number * len(example.images) // count] for number in range(count)]
    try:
        encoded = [thumbnail(image) for image in chosen]
    except UserError as error:
        return (), f"its image cannot be shown: {error}"
    numbers = []
    for content in encoded:
        number = hashes.setdefault(hashlib.sha256(content).hexdigest(), len(explorer.images))
        if number == len(explorer.images):
            explorer.images.append(content)
        numbers.append(number)
    return tuple(numbers), ""


def thumbnail(image: Image.Image | Path) -> bytes:
    """Encode an image as WebP, its longer side at most `LONGEST_SIDE` pixels."""
    small = open_image(image)
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "WEBP", quality=QUALITY, method=4)
    return content.getvalue()


def _item(test: Test, record: Record, question: _Question | None, reason: str) -> dict:
    same = question is not None and question.prompt == record["prompt"]
    if same:
        reason = question.reason
    elif not reason:
        reason = "the data now have another question with this id, or none"
    choices = list(question.choices) if same and question.choices else None
    identity = json.dumps([test.benchmark, record["prompt"]]).encode()
    return {
        "key": f"{record['id']}-{hashlib.sha256(identity).hexdigest()[:8]}",  # unique in the page's address
        "benchmark": test.benchmark,
        "id": record["id"],
        "task": record["task"],
        "prompt": record["prompt"],
        "question": question.question if same else record["prompt"],
        "choices": choices,
        "gold": str(record["gold"]),
        "gold_choice": _gold_choice(choices, question.answer) if choices else -1,
        "images": list(question.images) if same else [],
        "note": f"No image: {reason}." if reason else "",
    }


def _gold_choice(choices: Sequence[str], answer: str) -> int:
    """The index of the gold choice, given as its text or letter (`(B)`, `B`); -1 for neither."""
    if answer in choices:
        return list(choices).index(answer)
    letter = answer.strip("(). ")
    return ord(letter) - ord("A") if len(letter) == 1 and "A" <= letter <= "Z" else -1


def _answer(test: Test, record: Record, by_id: Mapping[str, _Question]) -> list:
    score = record.get("score", float(record["correct"]))
    parsed = record["parsed"]
    if isinstance(parsed, list):
        parsed = [None if each is None else str(each) for each in parsed]
    elif parsed is not None:
        parsed = str(parsed)
    images, note = [], []
    if "images_of" in record:
        giver = by_id.get(record["images_of"])
        images = list(giver.images) if giver else []
        note = [f"Was shown the image of {record['images_of']}."]
    elif test.ablation == "blank":
        note = ["Was shown a grey image."]
    answer = [int(score) if score in (0, 1) else round(score, 4), parsed, record["completions"]]
    return [*answer, images, *note] if note else answer


# ---- into the page


def script_text(content: Any) -> str:
    """Return JSON that is safe in a script element: it contains no tag."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def image_blocks(images: Sequence[bytes]) -> str:
    """Return one block of text per image, which the browser decodes only when it is shown."""
    return "\n".join(
        f'<script type="text/plain" id="image-{number}" data-type="data:image/webp;base64,">'
        f"{base64.b64encode(content).decode('ascii')}</script>"
        for number, content in enumerate(images)
    )
