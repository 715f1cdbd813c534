"""Predictions of any program: which question each row answers, and with what text.

Programs name their columns differently. The id is looked for under every name that is one, in the row and in
its `doc` (lmms-eval's copy of the data set's row), and a column of ids that does not fit the questions is
refused: rows are taken in the data's order only where none has an id. The text is a model's raw one.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spatialvlm.errors import RowError, UserError, shown
from spatialvlm.example import Example, without_image_tokens
from spatialvlm.files import rows
from spatialvlm.files.tables import Row

# The names that lm-eval, lmms-eval, VLMEvalKit and data sets give, without case and what parts their words.
_IDS = ("id", "questionid", "qid", "idx", "sampleid", "index", "docid", "questionindex", "questionidx", "uid")
SHORTEST, LOOKED_AT = 10, 200  # characters of a question to be looked for, and rows looked at
_COUNTS_ROWS = ("docid", "index")  # which number rows in most files, whatever the questions' ids are
_LIKE_IDS = {"id", "ids", "idx", "index", "uid", "uuid", "qid"}  # words of other names, such as `example_id`
_OURS = ("prediction", "completions")
_TEXTS = (
    *("response", "responses", "output", "outputs", "model_output", "model_response", "model_prediction"),
    *("generated_text", "generation", "completion", "pred", "predicted_answer", "model_answer"),
    *("resps", "filtered_resps"),
)
_PERHAPS = ("text", "content", "raw_output")  # ... where none of those is there
_QUESTIONS = ("question", "prompt", "input", "query", "problem", "instruction", "caption")
_GOLD = (
    "target",
    "gold",
    "goldanswer",
    "groundtruth",
    "gt",
    "gtanswer",
    "answer",
    "label",
    "labels",
    "score",
)
_MAY_BE_A_MODELS = ("answer", "label")  # names of right answers, and of what was read out of a text
_FACTS = {  # of a question, and the names of columns that hold them
    "task": ("task", "questiontype", "type", "category"),
    "source": ("source", "dataset"),
    "scene": ("scene", "scenename"),
}
_NESTED = ("resps", "filtered_resps")  # lists of lists, one for each request to the model


def texts(
    path: str,
    text_field: str | None,
    ids: Sequence[str],
    examples: Mapping[str, Example] | None = None,
    filtered: bool = False,
) -> dict[str, list[str]]:
    """The texts of each prediction, by the id of its question.

    What is chosen among several columns is said on stderr.

    Args:
        text_field: the column of the text; by default `prediction` or `completions`, or the only other one
            of a usual name.
        ids: of all questions, in order, each once.
        examples: the questions by id: their texts, right answers, scenes and tasks, which those in the rows
            must agree with.
        filtered: of lmms-eval's two texts, that which its own rules score, without thoughts
            (`filtered_resps`), and not the raw one.

    Raises:
        UserError: no predictions, a row without a text, of no question or of one that another row answers;
            columns of ids that fit no question or contradict each other, a row with another question's text,
            right answer, scene or task; the message names the row.
    """
    table = list(rows.read(path, ""))
    if not table:
        raise UserError(f"{path} holds no predictions")
    field = text_field or _text_field(path, table, filtered)
    flat = [(where, _flat(row)) for where, row in table]
    names = _joined(path, flat, ids, field)
    if examples:
        _check_questions(flat, names, {id: _words(example.question) for id, example in examples.items()})
        _check_facts(flat, names, examples, field)
    predicted: dict[str, list[str]] = {}
    for (where, row), id in zip(table, names, strict=True):
        if id in predicted:
            raise UserError(f"{where}: a second prediction for {id!r}; keep one")
        predicted[id] = _texts(row, field, where)
        if (count := len(predicted[id])) != (first := len(next(iter(predicted.values())))):
            raise UserError(
                f"{where}: {count} texts, and {table[0][0]} has {first}; give as many in each row"
            )
    return predicted


# ---- the question of a row


@dataclass(frozen=True)
class _Column:
    """A column that may hold ids: its values as texts, and the questions' ids that they mean."""

    name: str
    values: list[str | None]
    meant: list[str | None]

    def plain(self) -> str:
        return _plain(self.name)


def _joined(path: str, table: Sequence[tuple[str, Row]], ids: Sequence[str], field: str) -> list[str]:
    """The id of the question that each flat row answers; `field` is the column of the text."""
    columns, hidden = _columns(table, ids, (field, *_GOLD))
    if not columns:
        if len(table) != len(ids):
            raise UserError(
                f"{path} has {len(table)} rows without an 'id' for {len(ids)} questions; add ids, or give "
                "--split and --limit as in the evaluation"
            )
        for column in hidden:
            for (where, _), value, meant, id in zip(table, column.values, column.meant, ids, strict=True):
                if meant != id:
                    raise UserError(
                        f"{where} stands in the place of {id!r}, but its '{column.name}' {value} is the "
                        f"number of {meant!r}; name it 'id' where it tells the question, or remove it"
                    )
        print(f"{path} has no ids: its rows are taken in the data's order", file=sys.stderr)
        return list(ids)
    fitting = [column for column in columns if None not in column.meant]
    if not fitting:
        raise _misfit(columns[0], table, ids)
    fitting = [column for column in fitting if column.plain() in _IDS] or fitting
    own = set(ids)
    # A whole id of ours fits by no accident, and a data set's own row knows its id.
    sure = [column for column in fitting if set(column.values) <= own]
    sure = sure or [column for column in fitting if column.name.startswith("doc.")]
    chosen = sure or fitting
    for column in chosen[1:]:
        for (where, _), one, other in zip(table, chosen[0].meant, column.meant, strict=True):
            if one != other:
                raise UserError(
                    f"{where}: by '{chosen[0].name}' it answers {one!r}, and by '{column.name}' {other!r}; "
                    "remove the column that is not the questions' id"
                )
    if not sure and all(column.plain() in _COUNTS_ROWS for column in chosen):
        _refuse_two_meanings(chosen[0], table, ids)
    if chosen[0].name != "id":
        print(f"{path}: joined to the questions by '{chosen[0].name}'", file=sys.stderr)
    return chosen[0].meant


def _columns(
    table: Sequence[tuple[str, Row]], ids: Sequence[str], others: Sequence[str]
) -> tuple[list[_Column], list[_Column]]:
    """(those called an id, the surest name first; those that could be ids by their values, but `others`)."""
    last = {id.rsplit("-", 1)[-1]: id for id in ids}
    known = (last if len(last) == len(ids) else {}) | {id: id for id in ids}
    flat = [row for _, row in table]
    found, hidden = [], []
    for name in dict.fromkeys(name for row in flat for name in row):
        values = [_as_id(row.get(name)) for row in flat]
        column = _Column(name, values, [known.get(value) for value in values])
        words = re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", "_", name.rsplit(".", 1)[-1]).lower())
        may_be = name.startswith("Unnamed") or not _LIKE_IDS.isdisjoint(words)
        distinct = None not in values and len(set(values)) == len(values)
        if column.plain() in _IDS or (may_be and distinct):
            found.append(column)
        elif distinct and len(values) > 2 and name not in others and column.plain() not in others:
            stems = [known.get(re.sub(r"\.\w+$", "", value)) for value in values]  # 7 of "7.png"
            if None not in stems:
                hidden.append(_Column(name, values, stems))
    return sorted(found, key=lambda each: [*_IDS, each.plain()].index(each.plain())), hidden


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row's columns, and those of records in it (`doc`, `metadata`; also as JSON) as `doc.NAME`."""
    flat = dict(row)
    for name, value in row.items():
        inner = rows.list_in(value) if isinstance(value, str) and value.startswith("{") else value
        if isinstance(inner, dict):
            flat |= {f"{name}.{key}": each for key, each in inner.items()}
    return flat


def _plain(name: str) -> str:
    """A column's name without its record, its case and what parts its words."""
    return re.sub("[^a-z]", "", name.rsplit(".", 1)[-1].lower())


def _check_questions(
    table: Sequence[tuple[str, Row]], names: Sequence[str], plain: Mapping[str, str]
) -> None:
    """Raise UserError where a row holds the text of another question than it is joined to; looks at some."""
    long = {id: text for id, text in plain.items() if len(text) >= SHORTEST}  # to be found within a prompt
    whole = {text: id for id, text in plain.items()}
    for at in range(0, len(table), max(1, len(table) // LOOKED_AT)):
        (where, row), id = table[at], names[at]
        for name, value in row.items():
            if name.rsplit(".", 1)[-1].lower() not in _QUESTIONS or not isinstance(value, str):
                continue
            text = _words(value)
            if plain[id] in text:
                continue
            if other := whole.get(text) or next((o for o in long if long[o] in text), None):
                raise UserError(
                    f"{where}: its '{name}' is the question {other!r}, and by id or place it answers {id!r}; "
                    "give the questions' own ids as 'id'"
                )


def _check_facts(
    flat: Sequence[tuple[str, Mapping[str, Any]]],
    names: Sequence[str],
    examples: Mapping[str, Example],
    field: str,
) -> None:
    """Raise UserError where a row holds the right answer, scene or task of another question.

    A column counts where all its values are such as the questions have, so in no other form.
    """
    forms = _forms(examples.values())
    for name in dict.fromkeys(name for _, row in flat for name in row):
        plain = _plain(name)
        values = [row.get(name) for _, row in flat]
        fact = next((fact for fact, called in _FACTS.items() if plain in called), None)
        if fact and len({str(value) for value in values}) > 1:
            known = {_fact(example, fact) for example in examples.values()}
            owns = [_fact(examples[id], fact) for id in names]
            agree = [
                value == own if isinstance(value, str) and value in known else None
                for value, own in zip(values, owns, strict=True)
            ]
        elif plain in _GOLD and plain != "score" and name != field:
            owns = [examples[id].answer for id in names]
            agree = [_is_right(value, examples[id], forms) for value, id in zip(values, names, strict=True)]
        else:
            continue
        wrong = [at for at, each in enumerate(agree) if each is False]
        if not wrong or any(each is None and values[at] not in (None, "") for at, each in enumerate(agree)):
            continue
        texts_of = (_words(str(flat[at][1].get(field))) for at in wrong)
        if plain in _MAY_BE_A_MODELS and all(
            _said(values[at]) in text for at, text in zip(wrong, texts_of, strict=True)
        ):
            continue
        at = wrong[0]
        raise UserError(
            f"{flat[at][0]}: its '{name}' is {shown(values[at])}, and that of {names[at]!r}, which it "
            f"answers by id or place, is {shown(owns[at])}; check --data, --split, --limit and the ids, or "
            f"remove '{name}' where it is a model's own"
        )


def _fact(example: Example, name: str) -> str | None:
    value = example.task if name == "task" else example.meta.get(name)
    return value if isinstance(value, str) else None


def _forms(examples: Iterable[Example]) -> set[str]:
    """What right answers are written as: all answers, choices and their letters."""
    forms: set[str] = set()
    for example in examples:
        letters = [chr(97 + number) for number in range(len(example.choices or ()))]
        forms |= {_said(each) for each in (example.answer, *(example.choices or ()), *letters)}
    return forms


def _said(value: Any) -> str:
    """A right answer in one form: without case, brackets and outer blanks, numbers without ending zeros."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    said = _words(str(_as_text(value)))
    said = re.sub(r"^\(?([a-z])[).:]*$", r"\1", said)
    return repr(float(said)) if _NUMBER.fullmatch(said) else said


_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")


def _is_right(value: Any, example: Example, forms: Collection[str]) -> bool | None:
    """Whether a value is a question's right answer; None where it is in another form than all of them."""
    said, own = _said(value), _said(example.answer)
    if not example.choices:
        if own in ("yes", "no"):
            said = {"1.0": "yes", "0.0": "no", "true": "yes", "false": "no"}.get(said, said)
        known = said in forms or (_NUMBER.fullmatch(said) and _NUMBER.fullmatch(own))
        return said == own if known else None
    choices = [_said(choice) for choice in example.choices]
    is_text = example.answer in example.choices
    right = example.choices.index(example.answer) if is_text else ord(own) - ord("a")
    lettered = re.match(r"\(?[a-z][).:]+ *(.+)", said)
    if lettered and lettered[1] in forms:
        said = lettered[1]
    numbers = (f"{right}.0", f"{right + 1}.0")  # of the place, where places are written
    if said in (choices[right], chr(ord("a") + right), *numbers):
        return True
    return False if said in forms else None


def _words(text: str) -> str:
    return " ".join(without_image_tokens(text).lower().split())


def _as_id(value: Any) -> str | None:
    try:
        return rows.as_id(value, "id", "")
    except RowError:
        return None


def _misfit(column: _Column, table: Sequence[tuple[str, Row]], ids: Sequence[str]) -> UserError:
    """What is wrong with a column of which some value is no question's id."""
    at = column.meant.index(None)
    where, row = table[at]
    name, value = column.name, column.values[at]
    if value is None:
        given = row.get(name)
        if given is not None:
            return UserError(f"{where}: '{name}' must be an id, not {shown(given)}")
        return UserError(f"{where} has no '{name}', which other rows have")
    remedy = f"they are such as {ids[0]!r}: check --data, --split and --limit"
    numbers = {int(each) for each in column.values if each and re.fullmatch("[0-9]{1,18}", each)}
    if len(numbers) == len(table) == max(numbers, default=0) and min(numbers) == 1:
        remedy = f"'{name}' counts from 1: write the questions' own ids, such as {ids[0]!r}"
    elif column.plain() not in _IDS:
        remedy += f"; or rename '{name}' where it is no id"
    return UserError(f"{where}: no question has the id {value[:80]!r}; {remedy}")


def _refuse_two_meanings(column: _Column, table: Sequence[tuple[str, Row]], ids: Sequence[str]) -> None:
    """Raise UserError where numbers are ids of questions, but places of other questions in the data too."""
    places = [int(value) for value in column.values if re.fullmatch("[0-9]{1,18}", value)]
    if len(places) < len(table) or max(places) >= len(ids):
        return
    for (where, _), value, place, id in zip(table, column.values, places, column.meant, strict=True):
        if ids[place] != id:
            raise UserError(
                f"{where}: '{column.name}' {value} may be the id of {id!r} or the place of {ids[place]!r} in "
                "the data; name the column 'id' and write the questions' own ids"
            )


# ---- its text


def _text_field(path: str, table: Sequence[tuple[str, Row]], filtered: bool) -> str:
    """The column of the text by its name, or the only one of texts; said on stderr where it is not ours."""
    where, row = table[0]
    if ours := [name for name in _OURS if name in row]:
        return ours[0]
    there = [name for name in row if name.lower() in (*_OURS, *_TEXTS)]
    if there and set(there) <= set(_NESTED):
        preferred = _NESTED[filtered]
        there = [preferred] if any(preferred in row for _, row in table) else there
    there = there or [name for name in row if name.lower() in _PERHAPS] or _only_texts(table)
    if len(there) != 1:
        columns = ", ".join(f"'{name}'" for name in list(row)[:20])
        several = f"{where} has " + " and ".join(f"'{name}'" for name in there)
        missing = f"{where} has no 'prediction'"
        raise UserError(
            f"{several if there else missing}; name the field of the text with --text_field. There are "
            f"{columns}" + (" ('answer' is the right one in most files)" if "answer" in row else "")
        )
    print(f"{path}: the texts are those of '{there[0]}'", file=sys.stderr)
    return there[0]


def _only_texts(table: Sequence[tuple[str, Row]]) -> list[str]:
    """The columns of different texts beside an id that no other name tells the meaning of."""
    row = table[0][1]
    plain = {name: re.sub("[^a-z]", "", name.lower()) for name in row}
    known = {*_IDS, *_GOLD, *_QUESTIONS, *(name for names in _FACTS.values() for name in names)}
    if set(_IDS).isdisjoint(plain.values()):
        return []
    texts = [name for name, value in row.items() if isinstance(value, str) and plain[name] not in known]
    return [name for name in texts if len({str(each.get(name)) for _, each in table}) > 1 or len(table) == 1]


def _as_text(value: Any) -> Any:
    """A number or boolean as a model writes it, which pandas makes of its texts; any other value as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | float) and math.isfinite(value) else value


def _texts(row: Row, name: str, where: str) -> list[str]:
    if name not in row and name in _NESTED:  # lmms-eval writes one alone where both are equal
        name = next((other for other in _NESTED if other in row), name)
    if name not in row:
        raise UserError(f"{where} has no '{name}'; name the field of the text with --text_field")
    value = row[name]
    if name in _NESTED and isinstance(value, str) and value.startswith("["):
        value = rows.list_in(value)  # of a table of texts
    found = value if isinstance(value, list) else [value]
    if len(found) == 1 and isinstance(found[0], list):
        found = found[0]
    found = [_as_text(each) for each in found]
    if not found or not all(isinstance(text, str) for text in found):
        empty = "; write '' where the model said nothing" if row[name] is None else ""
        raise UserError(
            f"{where}: '{name}' must be a text, or a list of texts, not {shown(row[name])}{empty}"
        )
    return found
