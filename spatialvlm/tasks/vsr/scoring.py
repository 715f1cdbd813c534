"""VSR (Liu et al., TACL 2023): a caption is true or false, which is asked for as yes or no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import PAPER_TEXT, Benchmark, Rule, micro_and_mean
from spatialvlm.evaluation.metrics import Record
from spatialvlm.evaluation.tables import interval, text_table
from spatialvlm.example import Example
from spatialvlm.parsing import answers
from spatialvlm.tasks.vsr import data as vsr

_LABELS = {"no": 0, "yes": 1}


def parse_yes_no(text: str, example: Example) -> str | None:
    return answers.yes_no(text)


def parse_label(text: str, example: Example) -> int | None:
    """The label: the digit 0 or 1 where the text is one, as the authors' predictions are; else yes is 1.

    VSR's authors classify and parse no text; what they count is that the label is the same (`src/eval.py` of
    cambridgeltl/visual-spatial-reasoning). lmms-eval 0.7.3 has no task for VSR.
    """
    if (digit := text.strip()) in ("0", "1"):
        return int(digit)
    return _LABELS.get(answers.yes_no(text))


def by_relation(records: Sequence[Record], relations: Mapping[str, str]) -> dict[str, dict]:
    """The accuracy of each relation, the most frequent first: `n`, `accuracy`, `interval` and `chance`.

    Args:
        relations: the relation of each record's id.
    """
    named = [record | {"relation": relations[record["id"]]} for record in records]
    found = {}
    for relation, part in sorted(metrics.group(named, "relation").items(), key=lambda item: -len(item[1])):
        score = metrics.accuracy(part)
        chance = metrics.chance(part, part[0].get("num_samples", 1))
        found[relation] = {
            "n": score.n,
            "accuracy": score.value,
            "interval": score.interval,
            "chance": chance,
        }
    return found


def relation_table(relations: Mapping[str, Mapping]) -> str:
    """`by_relation` in percent as lines of text, with the group of each relation."""
    rows = [("by relation", "group", "n", "accuracy", "95 % interval", "chance")]
    for name, part in relations.items():
        figures = f"{100 * part['accuracy']:.1f}", interval(part["interval"]), f"{100 * part['chance']:.1f}"
        rows.append((name, vsr.group(name), str(part["n"]), *figures))
    return text_table(rows, "<<>")


def load(path: str, split: str | None = None, limit: int | None = None) -> Sequence[Example]:
    return vsr.load(path, split or "test", limit, need_images=False)


BENCHMARK = Benchmark(
    "VSR",
    load,
    {
        "strict": Rule("strict", "yes or no, true or false", parse_yes_no),
        "official": Rule(
            "official",
            "the label is the same (VSR's src/eval.py); the text as strict parses it",
            parse_label,
            lambda example: _LABELS[example.answer],
        ),
        "paper": PAPER_TEXT,
    },
    micro_and_mean,
)
