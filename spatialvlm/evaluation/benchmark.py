"""How answers are parsed and scored: a `Rule` for one answer, a `Benchmark` for its rules and totals.

Rules by name: `strict`, which every benchmark has, is ours: what a careful person would read in the text
(`spatialvlm.parsing.answers`). `official` is what the authors' code computes (CV-Bench: lmms-eval's, CLEVR
and counting: R1-V's), oddities and all; Sparkle and What'sUp have none. `paper` is paper A's reward or
script, for VSI-Bench the script that vsGRPO used, for Sparkle's composite tasks the one reference route;
What'sUp has none. VSI-Bench also has `lmms_eval`. Each benchmark has its folder in `spatialvlm/tasks`;
`python -m spatialvlm.tasks.score_file` scores with any of its rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.example import Example
from spatialvlm.parsing import answers

Parsed = str | int | float | None  # the answer of a text; None where there is none, which is wrong
Aggregate = Callable[[Sequence[Record]], dict[str, Estimate]]


@dataclass(frozen=True)
class Rule:
    """Parses the answer of a text, and scores it against the gold one.

    Args:
        name: `official`, `paper` or `strict`; a benchmark may have others.
        source: whose definition this is, in one line; it stands in every summary.
        parse: (text, example) -> what the text answers.
        parse_gold: example -> the right answer; `parse` of `example.answer` where None.
        score: (parsed, gold) -> a score within 0 and 1, for answers that can be partly right; where None, 1
            for the right answer and 0 for another.
    """

    name: str
    source: str
    parse: Callable[[str, Example], Parsed]
    parse_gold: Callable[[Example], Parsed] | None = None
    score: Callable[[Parsed, Parsed], float] | None = None

    def gold(self, example: Example) -> Parsed:
        return self.parse_gold(example) if self.parse_gold else self.parse(example.answer, example)

    def score_of(self, parsed: Parsed, gold: Parsed) -> float:
        return self.score(parsed, gold) if self.score else float(parsed == gold)

    def __str__(self) -> str:
        return f"{self.name}: {self.source}"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's questions, rules and totals.

    Args:
        title: its name in tables.
        load: `load(path, split=None, limit=None)` gives its examples.
        rules: by name; `strict` is always present.
        aggregate: its own totals of all records, by name.
    """

    title: str
    load: Callable[..., Sequence[Example]]
    rules: Mapping[str, Rule]
    aggregate: Aggregate


def to_record(example: Example, completions: list[str], rule: Rule, gold: Parsed) -> Record:
    """Make the record of an answered question.

    Fields: id, task, prompt, completions, parsed, gold, correct; `num_choices` of a lettered question or
    `vocabulary_size` of a free one; `source`, `images_of` and `cluster` where its meta has them. Of several
    samples, parsed is a list, correct whether any of them is right (the paper's Pass@k), and `num_correct` of
    `num_samples` are. Where answers can be partly right (`Rule.score`), `scores` has each sample's and
    `score` the best.
    """
    parsed = [rule.parse(text, example) for text in completions]
    scores = [rule.score_of(answer, gold) for answer in parsed]
    num_correct = sum(score == 1 for score in scores)
    record = {
        "id": example.id,
        "task": example.task,
        "prompt": example.prompt,
        "completions": completions,
        "parsed": parsed if len(completions) > 1 else parsed[0],
        "gold": gold,
        "correct": num_correct > 0,
    }
    if rule.score:
        record |= {"scores": scores, "score": max(scores)}
    if len(completions) > 1:
        record |= {"num_correct": num_correct, "num_samples": len(completions)}
    if example.choices:
        record["num_choices"] = len(example.choices)
    elif "vocabulary" in example.meta:
        record["vocabulary_size"] = len(example.meta["vocabulary"])
    kept = ("source", "images_of", "cluster")
    return record | {name: example.meta[name] for name in kept if name in example.meta}


def micro_and_mean(records: Sequence[Record]) -> dict[str, Estimate]:
    """Totals of a benchmark without a formula of its own: all questions alike, and all tasks alike."""
    return {"micro": metrics.accuracy(records), "mean_of_tasks": metrics.mean_of_tasks(records)}


def parse_choice(text: str, example: Example) -> str | None:
    """The letter of the choice that a text answers with (`answers.choice`)."""
    return answers.choice(text, example.choices)


def parse_free(text: str, example: Example) -> Parsed:
    """Yes or no, a number or a word, by what `meta["vocabulary"]` holds (`answers.one_of`)."""
    return answers.one_of(text, example.meta["vocabulary"])


def parse_as_rewarded(text: str, example: Example) -> str | None:
    """A text's last line as paper A's reward compares it (`answers.last_line`); None where it is empty."""
    return answers.last_line(text) or None


STRICT_CHOICE = Rule("strict", "the letter of the choice that a text answers with", parse_choice)
STRICT_FREE = Rule("strict", "yes or no, a number or a word, by what the question allows", parse_free)
PAPER_TEXT = Rule(
    "paper", "the last line is the answer, but for case and ( ) . , - (paper A's reward)", parse_as_rewarded
)
