"""A prompting study: questions, and conversations about them in a run folder, with scores and counts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from tqdm import tqdm

from spatialvlm.errors import UserError
from spatialvlm.evaluation import evaluate
from spatialvlm.evaluation.benchmark import Benchmark, Parsed, Rule, to_record
from spatialvlm.evaluation.metrics import Record
from spatialvlm.evaluation.summary import summarize
from spatialvlm.example import Example
from spatialvlm.prompting.exemplars import Overlap
from spatialvlm.prompting.strategy import (
    REFUSED,
    Aids,
    Client,
    Conversation,
    Dialogue,
    Reply,
    Strategy,
    missing,
)
from spatialvlm.run_folder import DataSource, Run
from spatialvlm.tasks import registry
from spatialvlm.tasks.clevr import scoring as clevr
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.sat import data as sat
from spatialvlm.tasks.vsr import data as vsr

HUB_IDS = {
    "cvbench": cvbench.HUB_ID,
    "sat": sat.HUB_ID,
    "vsr": vsr.HUB_ID,
    "clevr": "MMInstruction/Clevr_CoGenT_ValB",
}
EMBEDDED_SIZE = 200  # rendered questions, where no limit is given
KEPT = ("strategy", "notes", "replies", "finish", "usage")  # of a record, besides what every evaluation has
SOMETIMES = ("thoughts", "refusal", "without")  # the same, where replies have any
TOKENS = ("prompt_tokens", "completion_tokens")
CATEGORIES = ("program_status", "graph_source")  # notes that name one of a few kinds; other texts are content


# ---- questions


def load(
    name: str,
    strategy: Strategy,
    path: str,
    split: str | None = None,
    limit: int | None = None,
    image_folder: str | None = None,
) -> tuple[Sequence[Example], Benchmark]:
    """Load the questions of a study and their benchmark.

    Args:
        name: one of `HUB_IDS`.
        strategy: questions with another number of images than it takes are left out, and counted in print.
        path: as the evaluation of that benchmark takes it; `embedded` for rendered scenes.
        limit: maximum number of questions (of SAT: before each is asked in all orders of its choices).

    Raises:
        UserError: as the benchmark's own loader; no question has as many images as the strategy needs.
    """
    examples = registry.load_rows(source(name, strategy, path, split, limit, image_folder))
    benchmark = clevr.benchmark(path) if name == "clevr" else registry.benchmark(name)
    if strategy.images is None:
        return examples, benchmark
    fitting = examples if name == "sat" else sat.with_images(examples, strategy.images)
    if not len(fitting):
        raise UserError(
            f"--strategy {strategy.name} takes questions about {strategy.images} image(s), and there are "
            "none here; SAT has some about two (--benchmark sat)"
        )
    if len(fitting) < len(examples):
        print(f"left out: {len(examples) - len(fitting)} questions with another number of images")
    return fitting, benchmark


def source(
    name: str, strategy: Strategy, path: str, split: str | None, limit: int | None, image_folder: str | None
) -> DataSource:
    """Where the questions of a study come from; arguments as in `load`."""
    limit = limit or (EMBEDDED_SIZE if path == "embedded" else None)
    arguments: dict[str, Any] = {"path": path, "split": split, "limit": limit}
    if name != "clevr":
        arguments["split"] = split or "test"
    if name == "vsr":
        arguments["image_folder"] = image_folder
    if name == "sat":
        arguments["images"] = strategy.images
    return DataSource(name, arguments)


def parse_gold(examples: Sequence[Example], rule: Rule, title: str) -> dict[str, Parsed]:
    """The gold answers by id. Raises UserError for no questions, a repeated id, an unparsed gold answer."""
    return evaluate.gold_answers(examples, evaluate.Settings(rule), title).answers


# ---- answers


def run(
    client: Client,
    examples: Sequence[Example],
    gold: dict[str, Parsed],
    strategy: Strategy,
    aids: Aids,
    benchmark: Benchmark,
    rule: Rule,
    folder: Run,
    prices: tuple[float, float] = (0.0, 0.0),
    retry_refused: bool = False,
) -> dict[str, Any]:
    """Ask what the folder has no answer to yet, record by record; write and return the summary.

    Args:
        gold: the gold answers by id, in the order of `examples` (`parse_gold`).
        prices: per million prompt tokens and completion tokens.
        retry_refused: ask again what a server refused.

    Returns:
        The summary of `summarize`, with `strategy` (`counts`) and `session`.

    Raises:
        UserError: as the client and the strategy; a question that is a worked example too; answers to other
            questions in the folder; the first questions are all refused for the same reason.
    """
    rows = {row["id"]: row for row in folder.predictions()}
    if retry_refused and any(map(refused, rows.values())):
        rows = {id: row for id, row in rows.items() if not refused(row)}
        folder.replace_predictions(list(rows.values()))
    done = {
        id: record
        | {name: rows[id][name] for name in (*KEPT, *SOMETIMES) if name in rows[id] or name in KEPT}
        for id, record in evaluate.records_done(folder, examples, rule, gold).items()
    }
    first = min(client.patience, len(gold))
    _require_some_answer(list(done.values()), first)
    overlap, open_examples = Overlap(aids.exemplars), {}

    def conversations() -> Iterator[tuple[str, Conversation]]:
        for index, id in enumerate(gold):
            if id not in done:
                example = examples[index]
                overlap.check(example)
                open_examples[id] = example.without_images()
                yield id, strategy.converse(example, aids)

    started, resumed = time.monotonic(), len(done)
    correct = sum(record["correct"] for record in done.values())
    with (
        closing(client.talk(conversations())) as dialogues,
        tqdm(total=len(gold), initial=len(done), desc=strategy.name, unit="q") as bar,
    ):
        for id, dialogue in dialogues:
            record = to_record(open_examples.pop(id), [dialogue.outcome.text], rule, gold[id])
            done[id] = record | dialogue_entries(strategy, dialogue)
            folder.add_predictions([done[id]])
            if len(done) == first:
                _require_some_answer(list(done.values()), first)
            correct += done[id]["correct"]
            bar.set_postfix(accuracy=f"{100 * correct / len(done):.1f}", refresh=False)
            bar.update()
    records = [done[id] for id in gold]
    session = {"seconds": time.monotonic() - started, "answers_from_before": resumed, **client.facts()}
    finished = folder.summary()
    if finished and resumed == len(gold):  # nothing was left to do: keep what the answers took
        session = finished["session"]
    summary = summarize(records, benchmark.aggregate, rule, benchmark.title)
    summary |= {"strategy": counts(strategy, len(aids.exemplars), records, prices), "session": session}
    folder.write_summary(summary)
    return summary


def dialogue_entries(strategy: Strategy, dialogue: Dialogue) -> dict[str, Any]:
    """The entries of a record about its conversation."""
    replies = dialogue.replies
    without = Counter(name for reply in replies for name in reply.without)
    refusal = next((reply.refusal for reply in replies if reply.refusal), "")
    sometimes = {
        "thoughts": [reply.thoughts for reply in replies] if any(r.thoughts for r in replies) else None,
        "refusal": refusal or None,
        "without": dict(without) or None,
    }
    return {
        "strategy": strategy.name,
        "notes": dialogue.outcome.record,
        "replies": [reply.text for reply in replies],
        "finish": [reply.finish for reply in replies],
        "usage": _usage(replies),
    } | {name: value for name, value in sometimes.items() if value}


def _usage(replies: Sequence[Reply]) -> dict[str, int | None]:
    """The tokens of a conversation; None, with the number of such replies, where some do not say."""
    counted = [(reply.prompt_tokens, reply.completion_tokens) for reply in replies]
    known = [
        (prompt, completion)
        for prompt, completion in counted
        if prompt is not None and completion is not None
    ]
    unknown = len(counted) - len(known)
    return {
        "requests": len(counted),
        "prompt_tokens": None if unknown else sum(prompt for prompt, _ in known),
        "completion_tokens": None if unknown else sum(completion for _, completion in known),
    } | ({"without_usage": unknown} if unknown else {})


def refused(record: Mapping[str, Any]) -> str | None:
    """Why a question was refused (one of `strategy.REFUSED`), or None."""
    reasons = map(missing, record["replies"], record["finish"])
    return next((reason for reason in reasons if reason in REFUSED), None)


def _require_some_answer(records: Sequence[Record], number: float) -> None:
    """Check that not all of the first questions are refused for one reason, which is the study's fault.

    Raises:
        UserError: they are.
    """
    reasons = {refused(record) for record in records}
    if len(records) < number or len(reasons) != 1 or None in reasons:
        return
    (reason,) = reasons
    words = records[0].get("refusal")
    remedy = "--model, --base_url and the server's settings"
    if reason == "too long":
        remedy = "--shots, --max_new_tokens and the context length that the server was started with"
    raise UserError(
        f"all of the first {len(records)} questions were refused: {reason}{f' ({words})' if words else ''}; "
        f"check {remedy}, then run the same command with --retry_refused"
    )


# ---- counts


def counts(
    strategy: Strategy, shots: int, records: Sequence[Record], prices: tuple[float, float] = (0.0, 0.0)
) -> dict[str, Any]:
    """Count what a strategy's replies were like, over all records.

    `requests`, tokens and `cost` are those of the whole study, each request once, whether it was answered in
    this session, an earlier one, or from the cache. Where `without_usage` replies do not say what they took,
    tokens and cost are None, and `known_tokens` has those of the other questions. `finish` counts the reasons
    why replies ended, `refusals` the queries without an answer by reason (`strategy.missing`), `without`
    the replies to requests without a parameter that the server does not take. `cut_off` counts replies that
    ended at the maximum length, `too_long` queries that left no context for one. `notes` adds up what the
    strategy records: booleans and integers are summed (`graph_broken`), categories counted by name
    (`program_status`), fractions averaged.
    """
    unknown = sum(record["usage"].get("without_usage", 0) for record in records)
    known = {name: sum(record["usage"][name] or 0 for record in records) for name in TOKENS}
    cost = sum(known[name] * price for name, price in zip(TOKENS, prices, strict=True)) / 1e6
    finish = Counter(finish for record in records for finish in record["finish"])
    reasons = Counter(
        reason for record in records for reason in map(missing, record["replies"], record["finish"]) if reason
    )
    without: Counter[str] = Counter()
    for record in records:
        without.update(record.get("without", {}))
    return {
        "name": strategy.name,
        "shots": shots,
        "requests": sum(record["usage"]["requests"] for record in records),
        **({name: None for name in TOKENS} if unknown else known),
        "cost": None if unknown else cost,
        "without_usage": unknown,
        **({"known_tokens": known} if unknown else {}),
        "cut_off": finish["length"],
        "too_long": finish["too long"],
        "finish": dict(finish.most_common()),
        "refusals": dict(reasons.most_common()),
        "without": dict(without),
        "notes": _total_notes([record["notes"] for record in records]),
    }


def _total_notes(notes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for name in dict.fromkeys(name for each in notes for name in each):
        values = [each[name] for each in notes if each.get(name) is not None]
        if not values:
            continue
        if isinstance(values[0], dict):
            total[name] = {key: sum(value[key] for value in values) for key in values[0]}
        elif name in CATEGORIES:
            total[name] = dict(sorted(Counter(values).items()))
        elif isinstance(values[0], float):
            total[name] = sum(values) / len(values)
        elif isinstance(values[0], int):
            total[name] = sum(values)
    return total


def counts_text(counted: Mapping[str, Any]) -> str:
    """`counts` as some lines of text."""
    line = f"{counted['requests']} requests, "
    if unknown := counted["without_usage"]:
        line += f"tokens and cost unknown: {unknown} replies have no usage (questions whose replies have: "
        line += "{prompt_tokens:,} + {completion_tokens:,} tokens)".format(**counted["known_tokens"])
    else:
        line += "{prompt_tokens:,} + {completion_tokens:,} tokens".format(**counted)
        line += f", cost {counted['cost']:.4f}" if counted["cost"] else ""
    line += f"; cut off: {counted['cut_off']} replies"
    line += f"; too long for the context: {counted['too_long']} queries" if counted["too_long"] else ""
    lines = [line]
    others = {reason: count for reason, count in counted["refusals"].items() if reason != "too long"}
    if others:
        lines.append("without an answer: " + _named(others))
    usual = ("stop", "length", *REFUSED)
    if unusual := {name: count for name, count in counted["finish"].items() if name not in usual}:
        lines.append("ended otherwise than by stop or length: " + _named(unusual))
    if "temperature" in counted["without"]:
        lines.append(
            f"not greedy: {counted['without']['temperature']} replies at the server's own temperature"
        )
    if "seed" in counted["without"]:
        lines.append(f"without a seed: {counted['without']['seed']} replies")
    notes = [f"{name.replace('_', ' ')}: {_note_text(value)}" for name, value in counted["notes"].items()]
    return "\n".join([*lines, ", ".join(notes)] if notes else lines)


def _named(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in numbers.items())


def _note_text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {count}" for key, count in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)
