"""Super-CLEVR (Li et al., CVPR 2023): CLEVR's questions about vehicles, in the form its authors give it out.

A folder holds `images/`, `scenes/` (one file a picture, not read here) and a file with `questions` in its
name. Answers are JSON's own: true and false for yes and no, a number for a count, a text for an attribute.
The hub's form, `MMInstruction/SuperClevr_Val`, is that of CLEVR (`clevr.load`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files import rows
from spatialvlm.worlds.clevr.official_answers import family

VEHICLES = {
    "car": ("suv", "wagon", "minivan", "sedan", "truck", "regular car"),
    "bus": ("articulated bus", "regular bus", "double bus", "school bus"),
    "motorbike": ("chopper", "dirtbike", "scooter", "cruiser"),
    "aeroplane": ("jet", "fighter", "biplane", "airliner"),
    "bicycle": ("road bike", "utility bike", "mountain bike", "tandem bike"),
}
SHAPES = sum(VEHICLES.values(), ())  # what "What shape is ..." can be answered by
MOST = 10  # things in a picture, as in CLEVR: no count is above


def questions_file(folder: str | Path) -> Path | None:
    """The file of questions in a folder of Super-CLEVR's form; None where it is no such folder."""
    found = sorted(Path(folder).glob("*questions*.json")) if Path(folder).is_dir() else []
    return found[0] if found and (Path(folder) / "images").is_dir() else None


def load(folder: str | Path, limit: int | None = None) -> list[Example]:
    """The questions in the file's order, at most `limit`; the family (`count`, `query_shape`, ...) as task.

    Raises:
        UserError: no such folder; a file that is not JSON or holds no questions; a row without a question, an
            image's name or an answer that can be: the message names it.
    """
    file = questions_file(folder)
    if file is None:
        raise UserError(f"{folder} holds no images/ with a *questions*.json beside them, as Super-CLEVR does")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not JSON ({error}); fetch it again") from None
    asked = content.get("questions") if isinstance(content, dict) else None
    if not isinstance(asked, list) or not asked:
        raise UserError(f"{file} holds no 'questions'; it should be a Super-CLEVR questions file")
    return [
        _example(Path(folder), f"{file} row {number}", number, row)
        for number, row in enumerate(asked[:limit])
    ]


def _example(folder: Path, where: str, number: int, row: Any) -> Example:
    question, name = (rows.text(row, key, where) for key in ("question", "image_filename"))
    return Example(
        id=f"superclevr-{row.get('question_index', number)}",
        images=(folder / "images" / name,),
        question=question,
        answer=answer(row, "answer", where),
        task=family(question) or "other",
    )


def answer(row: Any, name: str, where: str) -> str:
    """An answer as CLEVR writes it: `yes`, `no`, a count from 0 to `MOST`, or a word.

    Raises:
        UserError: it is none of these; the message names the row.
    """
    value = rows.need(row, name, where)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        value = str(value)
    said = value.strip().lower() if isinstance(value, str) else ""
    if not said or (not said.replace(" ", "").isalpha() and not (said.isdecimal() and int(said) <= MOST)):
        raise UserError(
            f"{where}: '{name}' must be yes or no, a count from 0 to {MOST} or a word, not {value!r}; "
            "mend or remove the row"
        )
    return said
