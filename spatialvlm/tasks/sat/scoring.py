"""SAT (Ray et al., arXiv 2412.07755): the choice that a text answers with, in every order of the choices."""

from __future__ import annotations

from collections.abc import Sequence

from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import PAPER_TEXT, Benchmark, Rule, micro_and_mean, parse_choice
from spatialvlm.evaluation.metrics import Estimate, Record
from spatialvlm.example import Example
from spatialvlm.tasks.sat import data as sat
from spatialvlm.worlds.clevr.questions import LETTERS

_CLOSER = ("is closer", "are closer", "is situated closer", "are situated closer")
_SPEAKERS = ("###Assistant:", "###Human:")
_CLOCKWISE = {"clockwise": "left", "counter-clockwise": "right"}


def gold_letter(example: Example) -> str:
    return LETTERS[example.choices.index(sat.right_choice(example))]


def parse_official(text: str, example: Example) -> str | None:
    """The whole text in lower case, cut down by the wording of a few questions and answers.

    `QAAccuracy` of the authors' `models/eval_funcs.py` (arijitray1993/SAT), the metric of their published
    evaluation. So "left." is not "left"; every "night stand" becomes "nnight stand"; of two things where the
    text says that one "is located to" a side, it is the left one unless "right" occurs anywhere. Where their
    code stops with an IndexError the text is unparsed.
    """
    said, asked = text.strip(), example.prompt.lower()
    answer = opening = _before_mark(said)
    if not opening and (who := next((mark for mark in _SPEAKERS if mark in said), None)):
        answer = _before_mark(said.partition(who)[2])
    if example.answer in ("yes", "no") and answer not in ("yes", "no"):
        _, spoken, rest = said.partition("###Assistant:")
        answer = _before_mark(rest) if spoken else opening
    answer = "right" if answer == "ight" else answer.replace("ight stand", "night stand")
    word: str | None = answer
    if "which object is closer" in asked and (verb := next((v for v in _CLOSER if v in answer), None)):
        word = answer.split(f" {verb}")[0].split(" ")[-1].strip()
    if "is the camera moving" in asked and "moving" in answer:
        word = _word_after("moving ", answer)
        word = _CLOCKWISE.get(word, word)
    if "considering the relative positions" in asked and "is located to" in answer:
        word = "right" if "right" in answer else "left"
    if word and "(highlighted by" in word:
        word = word.split("(highlighted by")[0].strip()
    if word and "1." in word:
        word = word.split("1.")[1].strip()
    for mark in ("is located", "answer:"):
        if word and mark in word:
            word = _word_after(f"{mark} ", word)
    return word or None


def _before_mark(text: str) -> str:
    return text.split("###")[0].strip().lower()


def _word_after(mark: str, text: str) -> str | None:
    parts = text.split(mark)
    return parts[1].split(" ")[0].strip() if len(parts) > 1 else None


def gold_official(example: Example) -> str:
    return example.answer.lower().strip().replace("(", "").replace(")", "")


def aggregate(records: Sequence[Record]) -> dict[str, Estimate]:
    """SAT's totals.

    `official` is the mean over all items where every question comes in all orders of its choices (300 of the
    test's 150 questions). Beside it `mean_of_tasks`, and `both_orders` (`all_orders` where some have more
    than two choices): the fraction of questions that are right in every order, which is ours. Questions that
    come once have `micro` and `mean_of_tasks`.
    """
    totals = micro_and_mean(records)
    if not all("cluster" in record for record in records):
        return totals
    questions = metrics.clusters(records)
    samples = records[0].get("num_samples", 1) if "score" in records[0] else 1
    name = "both_orders" if max(map(len, questions)) == 2 else "all_orders"
    every = metrics.average([min(scores) for scores in questions], samples)
    return {"official": totals["micro"], "mean_of_tasks": totals["mean_of_tasks"], name: every}


BENCHMARK = Benchmark(
    "SAT",
    sat.load_test,
    {
        "strict": Rule("strict", "the choice that a text answers with", parse_choice, gold_letter),
        "official": Rule(
            "official",
            "the lower-cased text, cut for a few wordings (QAAccuracy of arijitray1993/SAT)",
            parse_official,
            gold_official,
        ),
        "paper": PAPER_TEXT,
    },
    aggregate,
)
