"""A prompting study: conversations about all questions into a run folder, with their scores and counts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from tqdm import tqdm

from spatialvlm.evaluation import evaluate
from spatialvlm.evaluation.benchmark import Benchmark, Parsed, Rule, to_record
from spatialvlm.evaluation.metrics import Record
from spatialvlm.evaluation.summary import summarize
from spatialvlm.example import Example
from spatialvlm.prompting.exemplars import Apart
from spatialvlm.prompting.strategy import Aids, Client, Conversation, Dialogue, Strategy
from spatialvlm.run_folder import Run

KEPT = ("strategy", "notes", "replies", "finish", "usage")  # of a record, beside what every evaluation has


def gold(examples: Sequence[Example], rule: Rule, title: str) -> dict[str, Parsed]:
    """The right answers by id. Raises UserError for no questions, an id twice, an unreadable gold answer."""
    return evaluate.gold_answers(examples, evaluate.Settings(rule), title).answers


def run(
    client: Client,
    examples: Sequence[Example],
    known: Mapping[str, Parsed],
    strategy: Strategy,
    aids: Aids,
    benchmark: Benchmark,
    rule: Rule,
    folder: Run,
    prices: tuple[float, float] = (0.0, 0.0),
) -> dict[str, Any]:
    """Asks what the folder has no answer to yet, one record a question as they end; writes the summary.

    Args:
        known: the right answers by id, in the order of `examples` (`gold`).
        prices: of a million tokens of prompts and of replies.

    Returns: the summary, as `summarize` makes it, with `strategy` (`counts`).

    Raises:
        UserError: as the client and the strategy; a question that is an example too; answers to other
            questions in the folder.
    """
    before = {row["id"]: row for row in folder.predictions()}
    done = {
        id: {**record, **{name: before[id][name] for name in KEPT}}
        for id, record in evaluate.records_done(folder, examples, rule, known).items()
    }
    apart, asked = Apart(aids.exemplars), {}

    def conversations() -> Iterator[tuple[str, Conversation]]:
        for index, id in enumerate(known):
            if id not in done:
                example = examples[index]
                apart.check(example)
                asked[id] = example.without_images()
                yield id, strategy.converse(example, aids)

    started, from_before = time.monotonic(), len(done)
    right = sum(record["correct"] for record in done.values())
    with (
        closing(client.talk(conversations())) as talks,
        tqdm(total=len(known), initial=len(done), desc=strategy.name, unit="q") as bar,
    ):
        for id, talk in talks:
            record = to_record(asked.pop(id), [talk.outcome.text], rule, known[id])
            done[id] = record | of_talk(strategy, talk)
            folder.add_predictions([done[id]])
            right += done[id]["correct"]
            bar.set_postfix(accuracy=f"{100 * right / len(done):.1f}", refresh=False)
            bar.update()
    records = [done[id] for id in known]
    summary = summarize(records, benchmark.aggregate, rule, benchmark.title)
    session = {"seconds": time.monotonic() - started, "answers_from_before": from_before, **client.facts()}
    finished = folder.summary()
    if finished and from_before == len(known):  # nothing was left to do: what it took is what it took then
        session = finished["session"]
    summary |= {"strategy": counts(strategy, len(aids.exemplars), records, prices), "session": session}
    folder.write_summary(summary)
    return summary


def of_talk(strategy: Strategy, talk: Dialogue) -> dict[str, Any]:
    """What a record holds of its conversation."""
    return {
        "strategy": strategy.name,
        "notes": talk.outcome.record,
        "replies": [reply.text for reply in talk.replies],
        "finish": [reply.finish for reply in talk.replies],
        "usage": {
            "requests": len(talk.replies),
            "prompt_tokens": sum(reply.prompt_tokens for reply in talk.replies),
            "completion_tokens": sum(reply.completion_tokens for reply in talk.replies),
        },
    }


def counts(
    strategy: Strategy, shots: int, records: Sequence[Record], prices: tuple[float, float] = (0.0, 0.0)
) -> dict[str, Any]:
    """What a strategy's replies were like, over all records.

    `requests`, tokens and `cost` are those of the whole study, each request once, whether it was answered in
    this session, an earlier one, or out of the cache. `cut_off` counts replies that ended at the greatest
    length, `too_long` queries that left no room for one. `notes` adds up what the strategy records: yes or no
    and whole numbers are summed (`graph_broken`: how many graphs were), words are counted by kind
    (`program_status`), shares are averaged.
    """
    total = {
        name: sum(record["usage"][name] for record in records)
        for name in ("requests", "prompt_tokens", "completion_tokens")
    }
    cost = (total["prompt_tokens"] * prices[0] + total["completion_tokens"] * prices[1]) / 1e6
    cut_off, too_long = (
        sum(record["finish"].count(finish) for record in records) for finish in ("length", "too long")
    )
    return {
        "name": strategy.name,
        "shots": shots,
        **total,
        "cost": cost,
        "cut_off": cut_off,
        "too_long": too_long,
        "notes": _added([record["notes"] for record in records]),
    }


WORDS = ("program_status", "graph_source")  # notes that say which of a few kinds; other texts are content


def _added(notes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for each in notes for name in each):
        values = [each[name] for each in notes if each.get(name) is not None]
        if not values:
            continue
        if isinstance(values[0], dict):
            found[name] = {key: sum(value[key] for value in values) for key in values[0]}
        elif name in WORDS:
            found[name] = dict(sorted(Counter(values).items()))
        elif isinstance(values[0], float):
            found[name] = sum(values) / len(values)
        elif isinstance(values[0], int):
            found[name] = sum(values)
    return found


def counts_text(found: Mapping[str, Any]) -> str:
    """`counts` as two lines of text."""
    spent = (
        f"{found['requests']} requests, {found['prompt_tokens']:,} + {found['completion_tokens']:,} tokens"
    )
    spent += f", cost {found['cost']:.4f}" if found["cost"] else ""
    spent += f"; cut off: {found['cut_off']} replies"
    spent += f"; too long to be asked: {found['too_long']} queries" if found["too_long"] else ""
    said = [f"{name.replace('_', ' ')}: {_value(value)}" for name, value in found["notes"].items()]
    return "\n".join([spent, *([", ".join(said)] if said else [])])


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {count}" for key, count in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)
