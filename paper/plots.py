"""The paper's plots as SVG, from its figures alone; the same figures give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("svg")  # no screen needed
import matplotlib.pyplot as plt

COLOURS = ("#7f7f7f", "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")  # Okabe and Ito's
STYLE = {
    "font.family": "STIXGeneral",  # comes with matplotlib
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "svg.hashsalt": "spatialvlm",  # ids that do not change from build to build
    "legend.frameon": False,
}
WIDTH = 6.7  # inches: the text's
SMOOTHED = 5  # steps
LEGEND = 5  # entries a line, where they are few


def draw(figures: Mapping) -> dict[str, str]:
    """Return every plot that the figures allow, by name."""
    found = {}
    with plt.rc_context(STYLE):
        if sat := figures.get("sat"):
            ways = {key: row for key, row in sat["pass1"].items() if key != "v2-unfiltered"}
            found["sat"] = _svg(dots(ways, published=sat["published_pass1"]))
            found["polarity"] = _svg(polarity(sat))
            found["courses"] = _svg(courses(sat["curves"]))
        if vsi := figures.get("vsi"):
            found["vsi"] = _svg(dots(vsi["ways"]))
        if sparkle := figures.get("sparkle"):
            found["sparkle"] = _svg(dots(sparkle["ways"]))
        if speed := figures.get("speed"):
            found["speed"] = _svg(seconds(speed["sizes"]))
    return found


def dots(
    ways: Mapping[str, Mapping], published: Mapping[str, Mapping] | None = None, height: float = 2.6
) -> plt.Figure:
    """Plot a block per column with a dot and interval per arm; hollow diamonds are published."""
    figure, axis = plt.subplots(figsize=(WIDTH, height))
    columns = [name for name in next(iter(ways.values())) if name != "name"]
    step = 0.8 / len(ways)
    for index, (key, row) in enumerate(ways.items()):
        places = [column - 0.4 + step * (index + 0.5) for column in range(len(columns))]
        _points(axis, places, [row[name] for name in columns], COLOURS[index], row["name"])
        if published and key in published:
            reported = [published[key][name]["value"] for name in columns]
            axis.plot(places, reported, "D", color=COLOURS[index], fillstyle="none", markersize=4)
    axis.set_xticks(range(len(columns)), [_broken(name) for name in columns])
    axis.set_ylabel("percent correct")
    axis.set_ylim(0, 100)
    handles, labels = axis.get_legend_handles_labels()
    if published:
        handles += axis.plot([], [], "D", color="black", fillstyle="none", markersize=4)
        labels.append("published, other model")
    columns_of_legend = LEGEND if len(labels) <= LEGEND else LEGEND - 1
    figure.legend(handles, labels, loc="upper center", ncols=columns_of_legend, columnspacing=1.2)
    rows = -(-len(labels) // columns_of_legend)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.09 * rows))
    return figure


def polarity(sat: Mapping) -> plt.Figure:
    """Plot Depth and Distance, original (full) and flipped (hollow), joined by a line, per arm."""
    tasks = list(next(iter(sat["published_gap"].values())))
    figure, axes = plt.subplots(1, len(tasks), figsize=(WIDTH, 2.3), sharey=True)
    for axis, task in zip(axes, tasks, strict=True):
        for place, key in enumerate(sat["pass1"]):
            before, after = sat["pass1"][key][task], sat["pass1_ood"][key][task]
            axis.plot([place, place], [100 * part["share"] for part in (before, after)], color=COLOURS[place])
            _points(axis, [place - 0.12], [before], COLOURS[place], None)
            _points(axis, [place + 0.12], [after], COLOURS[place], None, hollow=True)
        names = [row["name"].replace(" without ", "\nwithout ") for row in sat["pass1"].values()]
        axis.set_xticks(range(len(names)), [name.replace("dynamic sampling", "filter") for name in names])
        axis.set_title(task, fontsize=9)
        axis.set_ylim(0, 100)
    axes[0].set_ylabel("percent correct")
    figure.tight_layout()
    return figure


def courses(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> plt.Figure:
    """Plot reward before filtering, and the fraction of groups whose rewards differ, by step."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.1))
    names = {"v1": "GRPO-v1", "v2": "GRPO-v2", "v2-unfiltered": "GRPO-v2 without dynamic sampling"}
    titles = {"reward": "mean reward", "informative": "fraction of groups whose rewards differ"}
    for axis, (metric, title) in zip(axes, titles.items(), strict=True):
        for colour, (key, name) in zip((COLOURS[1], COLOURS[3], COLOURS[4]), names.items(), strict=True):
            if key not in curves:
                continue
            values = curves[key][metric]
            smooth = [
                sum(part) / len(part)
                for end in range(1, len(values) + 1)
                if (part := values[max(0, end - SMOOTHED) : end])
            ]
            axis.plot(range(1, len(values) + 1), smooth, color=colour, label=name)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncols=3)
    figure.tight_layout(rect=(0, 0, 1, 0.91))
    return figure


def seconds(sizes: Mapping[str, Mapping]) -> plt.Figure:
    """Plot seconds per GRPO step by method and group size, on a logarithmic axis."""
    figure, axis = plt.subplots(figsize=(WIDTH, 1.9))
    ways = list(next(iter(sizes.values()))["seconds"])
    for index, way in enumerate(ways):
        values = [size["seconds"][way]["value"] for size in sizes.values()]
        places = [place + (index - (len(ways) - 1) / 2) * 0.26 for place in range(len(sizes))]
        bars = axis.barh(places, values, height=0.24, color=COLOURS[index], label=way)
        axis.bar_label(bars, [f"{value:.2f}" for value in values], padding=2, fontsize=8)
    axis.set_xscale("log")
    axis.set_xlim(0.5, 60)
    axis.set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
    axis.minorticks_off()
    axis.set_yticks(range(len(sizes)), [f"{size['generations']} completions" for size in sizes.values()])
    axis.invert_yaxis()
    axis.set_xlabel("seconds per step")
    axis.grid(axis="y", visible=False)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


def _points(
    axis: plt.Axes,
    places: Sequence[float],
    found: Sequence[Mapping],
    colour: str,
    label: str | None,
    hollow=False,
) -> None:
    values = [100 * part["share"] for part in found]
    ends = [[100 * min(max(end, 0), 1) for end in part["interval"]] for part in found]
    whiskers = [
        [value - low for value, (low, _) in zip(values, ends, strict=True)],
        [high - value for value, (_, high) in zip(values, ends, strict=True)],
    ]
    axis.errorbar(places, values, whiskers, fmt="o", color=colour, markersize=4, elinewidth=1, label=label,
                  markerfacecolor="white" if hollow else colour)  # fmt: skip


def _broken(name: str) -> str:
    return name.replace(" ", "\n", 1)


def _svg(figure: plt.Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    plt.close(figure)
    return file.getvalue()
