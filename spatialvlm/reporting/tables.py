"""Summary tables of the report: what was measured, with intervals, above what was published."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape

from spatialvlm.evaluation.metrics import Estimate
from spatialvlm.papers import prompting_study
from spatialvlm.reporting import comparison
from spatialvlm.reporting.reading import Test
from spatialvlm.run_folder import differences
from spatialvlm.tasks import registry
from spatialvlm.tasks.clevr import published as clevr
from spatialvlm.tasks.counting import published as counting
from spatialvlm.tasks.cvbench import published as cvbench
from spatialvlm.tasks.sparkle import published as sparkle_published
from spatialvlm.tasks.vsi import published as vsi_published
from spatialvlm.tasks.vsi import scoring as vsibench
from spatialvlm.tasks.vsr import published as vsr

MEAN = "mean_of_tasks"
TITLES = {MEAN: "mean of tasks", "micro": "all questions", "close_call": "close call"}
SEEDS_DIFFER = (  # what may differ between runs that are one way with several seeds
    *("seed", "output_dir", "run_name", "resume", "adapter", "adapter_state", "batch_size", "num_workers"),
    *("eval_batch_size", "save_steps", "save_total_limit", "report_to", "log_completions_steps"),
)


@dataclass(frozen=True)
class Row:
    """One line of a table or series of a plot: a test, or the same test of several seeds taken together."""

    name: str
    tests: tuple[Test, ...]
    scores: dict[str, Estimate]  # by column: tasks, then totals


def rows(tests: Sequence[Test]) -> list[Row]:
    """Tests as lines, seeds of one way together where they were asked the same with the same arguments.

    All must be of one benchmark and kind. Of several seeds there are the tasks and their mean, with intervals
    that hold the chance of questions and of seeds (`comparison.mean`).
    """
    ways: dict[str, list[Test]] = {}
    for test in tests:
        way = ways.setdefault(test.way, [])
        if way and not _is_seed_of(way[0], test):
            way = ways.setdefault(test.name, [])
        way.append(test)
    return [_row(name, found) for name, found in ways.items()]


def _is_seed_of(first: Test, other: Test) -> bool:
    return (
        first.arguments.get("seed") != other.arguments.get("seed")
        and not differences(first.arguments, other.arguments, SEEDS_DIFFER)
        and {record["id"] for record in first.records} == {record["id"] for record in other.records}
        and not any("cluster" in record for record in first.records)
    )


def _row(way: str, tests: Sequence[Test]) -> Row:
    if len(tests) == 1:
        return Row(tests[0].name, tuple(tests), scores(tests[0]))
    asked = comparison.questions(tests[0].records)
    shares = [
        {record["id"]: record.get("score", float(record["correct"])) for record in test.records}
        for test in tests
    ]
    found = {task: comparison.mean(shares, asked.of(task)) for task in asked.tasks}
    return Row(f"{way} ({len(tests)} seeds)", tuple(tests), found | {MEAN: comparison.mean(shares, asked)})


def scores(test: Test) -> dict[str, Estimate]:
    """A summary's tasks and totals as estimates; of k samples those of any of k."""
    prefix = f"any_of_{test.num_samples} " if test.num_samples > 1 else ""
    found = {
        task: Estimate(part["accuracy"], tuple(part["interval"]), part["n"])
        for task, part in test.summary["tasks"].items()
    }
    for name, part in test.summary["aggregates"].items():
        if name.startswith(prefix) and name.removeprefix(prefix) not in found:
            n = part.get("n", test.summary["n"])
            found[name.removeprefix(prefix)] = Estimate(part["value"], tuple(part["interval"]), n)
    return found


def groups(tests: Sequence[Test]) -> dict[tuple[str, str], list[Test]]:
    """Tests by benchmark and kind: what can stand in one table."""
    found: dict[tuple[str, str], list[Test]] = {}
    for test in tests:
        found.setdefault((test.benchmark, test.kind), []).append(test)
    return found


# ---- HTML


def html(tests: Sequence[Test]) -> str:
    """One table a benchmark and kind of test, in percent."""
    return "\n".join(_table(benchmark, kind, part) for (benchmark, kind), part in groups(tests).items())


def _table(benchmark: str, kind: str, tests: Sequence[Test]) -> str:
    lines = rows(tests)
    columns = list(dict.fromkeys(name for line in lines for name in line.scores))
    head = "".join(f'<th scope="col">{escape(TITLES.get(name, name))}</th>' for name in columns)
    body = [_line(line, columns) for line in lines]
    body.append(_chance(tests[0], columns))
    note, figures = published_figures(benchmark, kind, {"strategy" in test.arguments for test in tests})
    for name, cells in figures.items():
        shown = "".join(f"<td>{escape(cells.get(column, ''))}</td>" for column in columns)
        body.append(f'<tr class="published"><th scope="row">{escape(name)}</th><td></td>{shown}</tr>')
    title = f"{escape(benchmark)} <small>{escape(kind)}</small>"
    rules = "; ".join(dict.fromkeys(str(test.summary.get("rule", "")).replace("`", "") for test in tests))
    return (
        f'<section><h2>{title}</h2><div class="wide"><table><thead><tr><th scope="col">run</th>'
        f'<th scope="col">n</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
        f'<p class="note">Percent, 95 % intervals. Read by: {escape(rules)}. {escape(note)}</p></section>'
    )


def _line(line: Row, columns: Sequence[str]) -> str:
    cells = "".join(f"<td>{cell(line.scores.get(column))}</td>" for column in columns)
    unread = sum(test.summary.get("unread", 0) for test in line.tests)
    said = f' <small title="answers that were not read">{unread} unread</small>' if unread else ""
    n = line.tests[0].summary["n"]
    return f'<tr><th scope="row">{escape(line.name)}{said}</th><td>{n:,}</td>{cells}</tr>'


def cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    low, high = (100 * min(max(end, 0), 1) for end in estimate.interval)
    return f"{100 * estimate.value:.1f} <small>{low:.1f} to {high:.1f}</small>"


def _chance(test: Test, columns: Sequence[str]) -> str:
    found = {task: part.get("chance") for task, part in test.summary["tasks"].items()}
    cells = "".join(
        f"<td>{'' if found.get(column) is None else f'{100 * found[column]:.1f}'}</td>" for column in columns
    )
    return f'<tr class="chance"><th scope="row">chance</th><td></td>{cells}</tr>'


Published = tuple[str, dict[str, dict[str, str]]]  # a sentence, {row: {column: figure}}


def published_figures(benchmark: str, kind: str, prompting: Collection[bool] = (False,)) -> Published:
    """(a sentence, {row: {column: figure}}) of what the papers report for such tests; nothing where none.

    Args:
        prompting: whether a test is of the prompting study, of each sort that there is: its published rows
            are others, and its total is over all questions.
    """
    parts = [_published_prompting(benchmark, kind)] if True in prompting else []
    parts += [_published_plain(benchmark, kind)] if False in prompting else []
    rows = {name: cells for _, figures in parts for name, cells in figures.items()}
    return " ".join(note for note, _ in parts if note), rows


def _published_prompting(benchmark: str, kind: str) -> Published:
    name = registry.titled(benchmark)
    if name not in prompting_study.PUBLISHED or kind != "greedy":
        return "", {}
    return "Published: paper A's prompting study; totals over all questions.", _cot_rows(name)


def _cot_rows(name: str, strategy: str | None = None) -> dict[str, dict[str, str]]:
    """The prompting study's rows, all or those of one strategy."""
    rows = {}
    for model, asked, title, figures in prompting_study.PUBLISHED[name]:
        if strategy in (None, asked):
            parts = dict(zip(cvbench.COLUMNS[:-1], figures[:-1], strict=name == "cvbench"))
            totals = dict.fromkeys(("micro", "official") if name == "sat" else ("micro",), figures[-1])
            rows[f"{model}, {title}, published"] = {
                column: f"{figure:.1f}" for column, figure in (parts | totals).items()
            }
    return rows


def _published_plain(benchmark: str, kind: str) -> Published:
    if benchmark == "CV-Bench":
        return _published_cvbench(kind)
    if kind != "greedy":
        return "", {}
    if benchmark == "Sparkle composite":
        figures: dict[str, dict[str, str]] = {}
        for task, found in sparkle_published.COMPOSITE.items():
            for model, before, after in found:
                for when, value in (("base", before), ("trained", after)):
                    figures.setdefault(f"{model}, {when}, published", {})[task] = f"{value:.1f}"
        return "Published: Sparkle, before and after training on basic capabilities.", figures
    if benchmark == "Counting":
        return "Published: paper A, accuracy, and of the wrong counts the share off by one.", {
            f"{model}, published": {
                source: f"{right:.2f} (close call {near:.2f})" for source, (right, near) in found.items()
            }
            for model, found in counting.ACCURACY_AND_CLOSE_CALL.items()
        }
    if benchmark == "CLEVR":
        return "Published: paper A, PaliGemma 2 3B mix-448 on CLEVR-CoGenT ValB.", {
            f"{name}, published": {"micro": f"{value:.2f}"} for name, value in clevr.DESCRIBED.items()
        }
    if benchmark in ("VSI-Bench", "VSI, in words"):
        columns = ("official", *vsibench.TASKS)
        return "Published: vsGRPO on the real VSI-Bench; its average under official.", {
            f"{name}, published": _cells(columns, figures) for name, figures in vsi_published.FIGURES.items()
        }
    if benchmark == "VSR":
        found = {f"{name}, published": {"micro": f"{value:.1f}"} for name, value in vsr.PALIGEMMA.items()}
        return "Published: paper A, on parts of the random split.", found | _cot_rows("vsr", "direct")
    if benchmark == "SAT":
        note = "Published: paper A's prompting study, which asked another model; it has none of PaliGemma."
        return note, _cot_rows("sat", "direct")
    return "", {}


def _published_cvbench(kind: str) -> Published:
    note = (
        "Published: paper A, PaliGemma 2 3B mix-224 on the real benchmark; its Total under the mean of tasks."
    )
    columns = [MEAN if name == "Total" else name for name in cvbench.COLUMNS]
    whole = {"greedy": cvbench.PASS_AT_1, "Pass@4": cvbench.PASS_AT_4}.get(kind)
    if whole:
        return note, {f"{name}, published": _cells(columns, values) for name, values in whole.items()}
    if kind == "greedy, polarity turned":
        return note, {
            f"{name}, published": {task: f"{turned:.1f}" for task, (_, turned) in tasks.items()}
            for name, tasks in cvbench.POLARITY.items()
        }
    return "", {}


def _cells(columns: Sequence[str], figures: Sequence[float]) -> dict[str, str]:
    return {column: f"{figure:.1f}" for column, figure in zip(columns, figures, strict=True)}
