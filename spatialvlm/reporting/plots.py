"""Plots of the report as inline SVG in the page's own colours and type, light or dark.

Scores are fractions, shown in percent; whiskers are 95 % intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from spatialvlm.evaluation.metrics import Estimate
from spatialvlm.evaluation.tables import interval
from spatialvlm.reporting import tables
from spatialvlm.reporting.runs import Test, Training
from spatialvlm.reporting.tables import MEAN, Row
from spatialvlm.training.tracking import CURVES

SHOWN = 8  # series per plot: as many as there are distinct colours
WIDTH, LINE, TOP, LEFT = 640, 15, 8, 46  # in units of the SVG
MARGIN = 22  # right of an axis in percent: half of its last label
HEIGHT = 260  # of a plot with curves
POINTS = 240  # per curve; longer trainings are averaged over as many stretches

Point = tuple[float, float]
Plot = tuple[str, Sequence[str], int]  # SVG, names of the series shown, number of all series


def html(tests: Sequence[Test], trainings: Sequence[Training]) -> str:
    """Return every plot for which the runs have data, each with its title."""
    parts = []
    for (benchmark, kind), part in tables.groups(tests).items():
        parts.append(_figure(f"{benchmark}: accuracy by task, {kind}", by_task(tables.rows(part))))
    for benchmark, pairs in polarity_pairs(tests).items():
        title = f"{benchmark}: original (full) and polarity-flipped (hollow)"
        parts.append(_figure(title, by_polarity(pairs)))
    for (benchmark, kind), part in tables.groups(tests).items():
        if part[0].num_samples > 1:
            parts.append(_figure(f"{benchmark}: unbiased Pass@k, {kind}", pass_at_k(part)))
    for title, metrics in CURVES.values():
        if any(name in row for training in trainings for row in training.rows for name in metrics[:1]):
            parts.append(_figure(f"Training: {title}, by step", training_curves(trainings, metrics[0])))
    return "\n".join(parts)


def _figure(title: str, plot: Plot) -> str:
    """A figure with its legend."""
    svg, names, total = plot
    keys = "".join(
        f'<li><svg class="key s{number}" viewBox="0 0 10 10" aria-hidden="true">'
        f'<circle cx="5" cy="5" r="4"/></svg>{escape(name)}</li>'
        for number, name in enumerate(names)
    )
    more = f" {len(names)} of {total}; give fewer runs to see the others." if total > len(names) else ""
    return (
        f'<figure class="plot"><figcaption>{escape(title)}.{more}</figcaption>'
        f'<div class="wide">{svg}</div><ul class="legend">{keys}</ul></figure>'
    )


# ---- dots with whiskers


def by_task(rows: Sequence[Row]) -> Plot:
    """Plot accuracy with one block per task and one for their mean; a dot and interval per row."""
    shown = rows[:SHOWN]
    columns = list(dict.fromkeys(task for row in shown for task in row.tests[0].summary["tasks"]))
    same_tasks = len({tuple(row.tests[0].summary["tasks"]) for row in shown}) == 1
    if same_tasks and len(columns) > 1 and any(MEAN in row.scores for row in shown):
        columns.append(MEAN)
    blocks = [
        (
            tables.TITLES.get(column, column),
            [
                (number, row.name, row.scores[column], False)
                for number, row in enumerate(shown)
                if column in row.scores
            ],
            _mean([row.tests[0].summary["tasks"].get(column, {}).get("chance") for row in shown]),
        )
        for column in columns
    ]
    return _dots(blocks), [row.name for row in shown], len(rows)


def polarity_pairs(tests: Sequence[Test]) -> dict[str, list[tuple[Row, Row]]]:
    """Return, by benchmark, greedy tests paired with the polarity-flipped tests of the same arm."""
    by_benchmark: dict[str, list[tuple[Row, Row]]] = {}
    for benchmark in dict.fromkeys(test.benchmark for test in tests):
        greedy = [t for t in tests if t.benchmark == benchmark and t.num_samples == 1 and not t.ablation]
        original = tables.rows([test for test in greedy if not test.flipped])
        flipped = {row.tests[0].arm: row for row in tables.rows([test for test in greedy if test.flipped])}
        if pairs := [(row, flipped[arm]) for row in original if (arm := row.tests[0].arm) in flipped]:
            by_benchmark[benchmark] = pairs
    return by_benchmark


def by_polarity(pairs: Sequence[tuple[Row, Row]]) -> Plot:
    """Plot original above flipped accuracy, for each task whose questions change with the polarity."""
    shown = pairs[:SHOWN]
    blocks = []
    for task in _changed_tasks(*shown[0]):
        lines = []
        for number, (original, flipped) in enumerate(shown):
            if task in original.scores:
                lines.append((number, original.name, original.scores[task], False))
            if task in flipped.scores:
                lines.append((number, f"{flipped.name}, flipped", flipped.scores[task], True))
        blocks.append((task, lines, None))
    return _dots(blocks), [original.name for original, _ in shown], len(pairs)


def _changed_tasks(original: Row, flipped: Row) -> list[str]:
    prompts = {record["id"]: record["prompt"] for record in original.tests[0].records}
    changed = [r["task"] for r in flipped.tests[0].records if prompts.get(r["id"]) not in (None, r["prompt"])]
    return list(dict.fromkeys(changed))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _dots(blocks: Sequence[tuple[str, list[tuple[int, str, Estimate, bool]], float | None]]) -> str:
    """Blocks of (title, lines of (series, name, estimate, hollow), chance) over one axis from 0 to 100 %."""
    left = 150
    heights = [max(len(lines), 1) * LINE + 10 for _, lines, _ in blocks]
    bottom = TOP + sum(heights)
    scale = _Scale(0, 1, left, WIDTH - MARGIN)
    parts = [_grid_x(scale, bottom, [fifths / 5 for fifths in range(6)])]
    top = TOP
    for (title, lines, chance), height in zip(blocks, heights, strict=True):
        middle = top + height / 2
        parts.append(f'<text x="{left - 10}" y="{middle + 4:.1f}" class="end">{escape(title)}</text>')
        if chance is not None:
            x = scale(chance)
            parts.append(
                f'<path class="chance" d="M{x:.1f} {top}V{top + height}"><title>chance '
                f"{100 * chance:.1f} %</title></path>"
            )
        for place, (series, name, score, hollow) in enumerate(lines):
            y = top + 5 + LINE * (place + 0.5)
            low, high = (min(max(end, 0), 1) for end in score.interval)
            parts.append(
                f'<g class="s{series}{" hollow" if hollow else ""}"><title>{escape(name)}, {escape(title)}: '
                f"{_percent(score)}</title>"
                f'<path d="M{scale(low):.1f} {y:.1f}H{scale(high):.1f}"/>'
                f'<circle cx="{scale(score.value):.1f}" cy="{y:.1f}" r="4.5"/></g>'
            )
        top += height
        parts.append(f'<path class="grid" d="M{left} {top}H{WIDTH - MARGIN}"/>')
    return _svg(bottom + 22, parts, "accuracy in percent, with 95 % intervals")


# ---- curves


def pass_at_k(tests: Sequence[Test]) -> Plot:
    """Plot unbiased Pass@k of the mean of tasks (of all questions if there is no such mean) against k."""
    series = []
    for row in tables.rows(tests):
        total = MEAN if f"pass@1 {MEAN}" in row.tests[0].summary["aggregates"] else "micro"
        curves = [
            [test.summary["aggregates"][f"pass@{k} {total}"] for k in range(1, test.num_samples + 1)]
            for test in row.tests
        ]
        series.append((row.name, curves))
    shown, most = series[:SHOWN], max(test.num_samples for test in tests)
    values = [end for _, curves in shown for curve in curves for part in curve for end in part["interval"]]
    low, high = _round_out(min(values), max(values), 0.1)
    parts, across, up = _axes((1, most), (low, high), list(range(1, most + 1)), "k", percent=True)
    for number, (name, curves) in enumerate(shown):
        for curve in curves:
            points = [(across(k), up(part["value"])) for k, part in enumerate(curve, start=1)]
            parts.append(f'<g class="s{number}"><path class="curve" d="{_path(points)}"/>')
            for (x, y), part in zip(points, curve, strict=True):
                bottom, top = (up(min(max(end, 0), 1)) for end in part["interval"])
                label = f"{name}: {100 * part['value']:.1f} % ({interval(part['interval'])})"
                parts.append(
                    f"<g><title>{escape(label)}</title>"
                    f'<path class="thin" d="M{x:.1f} {bottom:.1f}V{top:.1f}"/>'
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/></g>'
                )
            parts.append("</g>")
    return _svg(HEIGHT, parts, "Pass@k in percent against k"), [name for name, _ in shown], len(series)


def training_curves(trainings: Sequence[Training], metric: str) -> Plot:
    """Plot a metric by step, one curve per training.

    Every step is thin, the mean of its neighbourhood (a twentieth of the run) thick; NaN leaves a gap.
    """
    series = {
        training.name: points
        for training in trainings
        if (points := [(row["step"], row[metric]) for row in training.rows if metric in row])
    }
    shown = dict(list(series.items())[:SHOWN])
    thinned = {name: thin(points) for name, points in shown.items()}
    finite = [point for points in thinned.values() for point in points if math.isfinite(point[1])]
    low, high = (extreme(y for _, y in finite) for extreme in (min, max)) if finite else (0.0, 1.0)
    steps = [x for points in thinned.values() for x, _ in points]
    ends = (min(steps), max(steps)) if max(steps) > min(steps) else (min(steps), min(steps) + 1)
    pad = (high - low or abs(high) or 1.0) * 0.06
    parts, across, up = _axes(ends, (low - pad, high + pad), _ticks(*ends), "step", percent=False)
    for number, (name, points) in enumerate(thinned.items()):
        places = [(across(x), up(y) if math.isfinite(y) else math.nan) for x, y in points]
        last = points[-1]
        parts.append(
            f'<g class="s{number}"><title>{escape(name)}: {last[1]:.4g} at step {last[0]:.0f}</title>'
            f'<path class="raw" d="{_path(places)}"/><path class="curve" d="{_path(_smooth(places))}"/></g>'
        )
    return _svg(HEIGHT, parts, f"{metric} by step"), list(shown), len(series)


def thin(points: Sequence[Point]) -> list[Point]:
    """Reduce a curve to at most `POINTS` points, the means of stretches of equal length."""
    size = math.ceil(len(points) / POINTS)
    stretches = [points[at : at + size] for at in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in stretches]


def _smooth(places: Sequence[Point]) -> list[Point]:
    half = max(1, len(places) // 40)
    means = []
    for at, (x, y) in enumerate(places):
        near = [v for _, v in places[max(0, at - half) : at + half + 1] if not math.isnan(v)]
        means.append((x, y if math.isnan(y) else sum(near) / len(near)))
    return means


# ---- pieces


class _Scale:
    """Maps values to coordinates."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.start = low, start
        self.factor = (end - start) / ((high - low) or 1)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) * self.factor


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    frame = f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}"'
    return f"<svg {frame}>{''.join(parts)}</svg>"


def _grid_x(scale: _Scale, bottom: float, ticks: Sequence[float]) -> str:
    return "".join(
        f'<path class="grid" d="M{scale(tick):.1f} {TOP}V{bottom}"/>'
        f'<text x="{scale(tick):.1f}" y="{bottom + 16}" class="middle">{100 * tick:.0f} %</text>'
        for tick in ticks
    )


def _axes(
    x: tuple[float, float], y: tuple[float, float], x_ticks: Sequence[float], x_title: str, percent: bool
) -> tuple[list[str], _Scale, _Scale]:
    """Return grid and labels, the horizontal and the vertical scale."""
    bottom = HEIGHT - 34
    across, up = _Scale(*x, LEFT + 12, WIDTH - 14), _Scale(*y, bottom, TOP)
    parts = []
    for tick in _ticks(*y):
        text = f"{100 * tick:.0f} %" if percent else f"{tick:.3g}"
        parts.append(f'<path class="grid" d="M{LEFT + 6} {up(tick):.1f}H{WIDTH - 8}"/>')
        parts.append(f'<text x="{LEFT}" y="{up(tick) + 4:.1f}" class="end">{text}</text>')
    for tick in x_ticks:
        parts.append(f'<text x="{across(tick):.1f}" y="{bottom + 16}" class="middle">{tick:g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" class="middle">{x_title}</text>')
    return parts, across, up


def _ticks(low: float, high: float) -> list[float]:
    """Up to seven round numbers from low to high."""
    step = 10 ** math.floor(math.log10((high - low) / 5 or 1))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    return [
        number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]


def _round_out(low: float, high: float, step: float) -> Point:
    return max(math.floor(low / step) * step, 0), min(math.ceil(high / step) * step, 1)


def _path(points: Sequence[Point]) -> str:
    """Lines from point to point; NaN leaves a gap."""
    words, pen = [], "M"
    for x, y in points:
        if math.isnan(y):
            pen = "M"
            continue
        words.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(words)


def _percent(score: Estimate) -> str:
    return f"{100 * score.value:.1f} % ({interval(score.interval)}), n = {score.n:,}"
