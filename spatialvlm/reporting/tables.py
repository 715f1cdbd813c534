"""Summary tables of the report: measured scores with intervals above the published ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from spatialvlm.evaluation.metrics import Estimate
from spatialvlm.evaluation.tables import interval
from spatialvlm.reporting import comparison
from spatialvlm.reporting.runs import Test
from spatialvlm.run_folder import differences
from spatialvlm.tasks import registry
from spatialvlm.tasks.clevr import published as clevr
from spatialvlm.tasks.counting import published as counting
from spatialvlm.tasks.cvbench import published as cvbench
from spatialvlm.tasks.sat import published as sat
from spatialvlm.tasks.sparkle import published as sparkle
from spatialvlm.tasks.vsi import published as vsi
from spatialvlm.tasks.vsi.scoring import TASKS as VSI_TASKS
from spatialvlm.tasks.vsr import published as vsr

MEAN = "mean_of_tasks"
TITLES = {MEAN: "mean of tasks", "micro": "all questions", "close_call": "close call"}
PROMPTING = {  # published rows of the prompting study, by the benchmark's name
    "cvbench": cvbench.PROMPTING,
    "sat": sat.PROMPTING,
    "clevr": clevr.PROMPTING,
    "vsr": vsr.PROMPTING,
}
SEEDS_DIFFER = (  # arguments that may differ between the seeds of one arm
    *("seed", "output_dir", "run_name", "resume", "adapter", "adapter_state", "batch_size", "num_workers"),
    *("eval_batch_size", "save_steps", "save_total_limit", "report_to", "log_completions_steps"),
)


@dataclass(frozen=True)
class Row:
    """One line of a table or series of a plot: a test, or one arm's tests of several seeds."""

    name: str
    tests: tuple[Test, ...]
    scores: dict[str, Estimate]  # by column: tasks, then totals


def rows(tests: Sequence[Test]) -> list[Row]:
    """Return tests of one benchmark and kind as rows, the seeds of one arm in one row.

    A row of several seeds has the tasks and their mean, with intervals over questions and seeds
    (`comparison.mean`).
    """
    arms: dict[str, list[Test]] = {}
    for test in tests:
        arm = arms.setdefault(test.arm, [])
        if arm and not _is_seed_of(arm[0], test):
            arm = arms.setdefault(test.name, [])
        arm.append(test)
    return [_row(name, seeds) for name, seeds in arms.items()]


def _is_seed_of(first: Test, other: Test) -> bool:
    return (
        first.arguments.get("seed") != other.arguments.get("seed")
        and not differences(first.arguments, other.arguments, SEEDS_DIFFER)
        and {record["id"] for record in first.records} == {record["id"] for record in other.records}
        and not any("cluster" in record for record in first.records)
    )


def _row(arm: str, tests: Sequence[Test]) -> Row:
    if len(tests) == 1:
        return Row(tests[0].name, tuple(tests), scores(tests[0]))
    questions = comparison.questions(tests[0].records)
    seeds = [{r["id"]: r.get("score", float(r["correct"])) for r in test.records} for test in tests]
    means = {task: comparison.mean(seeds, questions.of(task)) for task in questions.tasks}
    return Row(f"{arm} ({len(tests)} seeds)", tuple(tests), means | {MEAN: comparison.mean(seeds, questions)})


def scores(test: Test) -> dict[str, Estimate]:
    """Return a summary's tasks and totals as estimates; with k samples, those of any of k."""
    prefix = f"any_of_{test.num_samples} " if test.num_samples > 1 else ""
    estimates = {
        task: Estimate(part["accuracy"], tuple(part["interval"]), part["n"])
        for task, part in test.summary["tasks"].items()
    }
    for name, part in test.summary["aggregates"].items():
        total = name.removeprefix(prefix)
        if name.startswith(prefix) and total not in estimates:
            n = part.get("n", test.summary["n"])
            estimates[total] = Estimate(part["value"], tuple(part["interval"]), n)
    return estimates


def groups(tests: Sequence[Test]) -> dict[tuple[str, str], list[Test]]:
    """Return tests by benchmark and kind: one table each."""
    grouped: dict[tuple[str, str], list[Test]] = {}
    for test in tests:
        grouped.setdefault((test.benchmark, test.kind), []).append(test)
    return grouped


# ---- HTML


def html(tests: Sequence[Test]) -> str:
    """Return one table per benchmark and kind of test, in percent."""
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
        f'<p class="note">Percent, 95 % intervals. Scored by: {escape(rules)}. {escape(note)}</p></section>'
    )


def _line(line: Row, columns: Sequence[str]) -> str:
    cells = "".join(f"<td>{cell(line.scores.get(column))}</td>" for column in columns)
    unparsed = sum(test.summary.get("unread", 0) for test in line.tests)
    note = f' <small title="answers that could not be parsed">{unparsed} unparsed</small>' if unparsed else ""
    n = line.tests[0].summary["n"]
    return f'<tr><th scope="row">{escape(line.name)}{note}</th><td>{n:,}</td>{cells}</tr>'


def cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{100 * estimate.value:.1f} <small>{interval(estimate.interval)}</small>"


def _chance(test: Test, columns: Sequence[str]) -> str:
    chances = {task: part.get("chance") for task, part in test.summary["tasks"].items()}
    shown = ["" if chances.get(name) is None else f"{100 * chances[name]:.1f}" for name in columns]
    cells = "".join(f"<td>{each}</td>" for each in shown)
    return f'<tr class="chance"><th scope="row">chance</th><td></td>{cells}</tr>'


# ---- published figures

Cells = dict[str, str]  # column -> figure
Published = tuple[str, dict[str, Cells]]  # a sentence, rows by name


def published_figures(benchmark: str, kind: str, prompting: Collection[bool] = (False,)) -> Published:
    """Return what the papers report for such tests, with a sentence about it; empty if nothing.

    Args:
        benchmark: its title.
        kind: as `Test.kind`.
        prompting: True for tests of the prompting study, which has rows of its own and totals over all
            questions; False for others; or both.
    """
    parts = [_published_prompting(benchmark, kind)] if True in prompting else []
    parts += [_published_plain(benchmark, kind)] if False in prompting else []
    rows = {f"{name}, published": cells for _, figures in parts for name, cells in figures.items()}
    return " ".join(note for note, _ in parts if note), rows


def _published_prompting(benchmark: str, kind: str) -> Published:
    name = registry.titled(benchmark)
    if name not in PROMPTING or kind != "greedy":
        return "", {}
    return "Published: paper A's prompting study; totals over all questions.", _prompting_rows(name)


def _prompting_rows(name: str, only: str | None = None) -> dict[str, Cells]:
    """The prompting study's rows: of all strategies, or of one."""
    rows = {}
    for model, strategy, title, figures in PROMPTING[name]:
        if only in (None, strategy):
            tasks = zip(cvbench.COLUMNS[:-1], figures[:-1], strict=name == "cvbench")
            totals = dict.fromkeys(("micro", "official") if name == "sat" else ("micro",), figures[-1])
            rows[f"{model}, {title}"] = _cells(dict(tasks) | totals)
    return rows


def _published_plain(benchmark: str, kind: str) -> Published:
    if benchmark == "CV-Bench":
        return _published_cvbench(kind)
    if kind != "greedy":
        return "", {}
    match benchmark:
        case "Sparkle composite":
            rows: dict[str, Cells] = {}
            for task, changes in sparkle.COMPOSITE.items():
                for model, before, after in changes:
                    rows.setdefault(f"{model}, base", {})[task] = f"{before:.1f}"
                    rows.setdefault(f"{model}, trained", {})[task] = f"{after:.1f}"
            return "Published: Sparkle, before and after training on basic capabilities.", rows
        case "Counting":
            rows = {
                model: {
                    name: f"{exact:.2f} (close call {close:.2f})" for name, (exact, close) in sets.items()
                }
                for model, sets in counting.ACCURACY_AND_CLOSE_CALL.items()
            }
            return "Published: paper A, accuracy; close call: incorrect counts that are off by one.", rows
        case "CLEVR":
            rows = {name: {"micro": f"{value:.2f}"} for name, value in clevr.DESCRIBED.items()}
            return "Published: paper A, PaliGemma 2 3B mix-448 on CLEVR-CoGenT ValB.", rows
        case "VSI-Bench" | "VSI, in words":
            columns = ("official", *VSI_TASKS)
            rows = {name: _cells(zip(columns, row, strict=True)) for name, row in vsi.FIGURES.items()}
            return "Published: vsGRPO on the real VSI-Bench; its average under official.", rows
        case "VSR":
            rows = {name: _cells({"micro": value}) for name, value in vsr.PALIGEMMA.items()}
            note = "Published: paper A, on parts of the random split."
            return note, rows | _prompting_rows("vsr", "direct")
        case "SAT":
            note = "Published: paper A's prompting study, of another model; it has no figure for PaliGemma."
            return note, _prompting_rows("sat", "direct")
    return "", {}


def _published_cvbench(kind: str) -> Published:
    columns = [MEAN if name == "Total" else name for name in cvbench.COLUMNS]
    if kind == "greedy, polarity-flipped":
        rows = {
            name: _cells({task: flipped for task, (_, flipped) in tasks.items()})
            for name, tasks in cvbench.POLARITY.items()
        }
    elif kind in ("greedy", "Pass@4"):
        figures = cvbench.PASS_AT_1 if kind == "greedy" else cvbench.PASS_AT_4
        rows = {name: _cells(zip(columns, row, strict=True)) for name, row in figures.items()}
    else:
        return "", {}
    return (
        "Published: paper A, PaliGemma 2 3B mix-224 on the real benchmark; Total is the mean of tasks.",
        rows,
    )


def _cells(figures: Mapping[str, float] | Iterable[tuple[str, float]]) -> Cells:
    return {column: f"{figure:.1f}" for column, figure in dict(figures).items()}
