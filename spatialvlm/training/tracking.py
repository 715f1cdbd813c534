"""Watching a training: trackers through accelerate, completions on the screen, plotted curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.utils import is_tensorboard_available, is_trackio_available, is_wandb_available
from tqdm import tqdm

from spatialvlm.errors import UserError
from spatialvlm.run_folder import Run

AVAILABLE = {
    "trackio": is_trackio_available,
    "wandb": is_wandb_available,
    "tensorboard": is_tensorboard_available,
}
CURVES = {  # by name of the plot: title of the axis, and the metrics on it
    "reward": ("reward (before filtering; learnt from)", ("reward", "reward_kept")),
    "loss": ("loss", ("loss",)),
    "kl": ("KL from the base model, nats per token", ("kl",)),
    "informative": ("fraction of groups", ("informative", "dropped")),
    "length": ("completion length, tokens", ("completion_length",)),
}


class Tracker:
    """Send metrics to a tracker beside the run folder; `none` sends nothing.

    Args:
        name: `none`, `trackio` (local, no account), `wandb` or `tensorboard` (files in the run folder).
        folder: the run's folder.
        arguments: recorded with the run.

    Raises:
        UserError: the tracker's package is not installed, or it cannot start.
    """

    def __init__(self, name: str, folder: Path, arguments: Mapping[str, Any]) -> None:
        self.accelerator = None
        if name == "none" or not PartialState().is_main_process:
            return
        if not AVAILABLE[name]():
            raise UserError(f"--report_to {name} needs its package: pip install {name}")
        self.accelerator = Accelerator(
            cpu=PartialState().device.type == "cpu", log_with=name, project_dir=folder
        )
        flat = {
            key: value if isinstance(value, int | float | str) else str(value)
            for key, value in arguments.items()
        }
        options = {} if name == "tensorboard" else {name: {"name": folder.name}}
        self.accelerator.init_trackers("spatialvlm", flat, options)

    def log(self, row: Mapping[str, float]) -> None:
        """Send a step's metrics."""
        if self.accelerator:
            self.accelerator.log({n: value for n, value in row.items() if n != "step"}, step=row["step"])

    def finish(self) -> None:
        if self.accelerator:
            self.accelerator.end_training()


def show(step: int, sample: Mapping[str, Any]) -> None:
    """Print one prompt with its completions and rewards, without breaking the progress bar."""
    answers = ", ".join(
        f"{text!r} {reward:g}" for text, reward in zip(sample["completions"], sample["rewards"], strict=True)
    )
    tqdm.write(
        f"step {step}: {' '.join(sample['prompt'].split())}\n"
        f"  right: {sample['answer']!r}; sampled: {answers}"
    )


def plot(run: Run) -> list[Path]:
    """Plot the run's metrics by step into `plots/`, one PNG per curve; the files."""
    from matplotlib.figure import Figure  # imported late, and without pyplot, which looks for a window system

    rows = run.metrics()
    folder = run.folder / "plots"
    plots = []
    for name, (title, metrics) in CURVES.items():
        logged = [metric for metric in metrics if any(metric in row for row in rows)]
        if not logged:
            continue
        folder.mkdir(exist_ok=True)
        figure = Figure(figsize=(6, 3.6), dpi=150, layout="constrained")
        axes = figure.subplots()
        for metric in logged:
            steps, values = zip(*[(row["step"], row[metric]) for row in rows if metric in row], strict=True)
            _curve(axes, steps, values, metric)
        axes.set(xlabel="optimizer step", ylabel=title)
        axes.grid(alpha=0.3)
        if len(logged) > 1:
            axes.legend(frameon=False)
        plots.append(folder / f"{name}.png")
        figure.savefig(plots[-1])
    return plots


def _curve(axes, steps: Sequence[int], values: Sequence[float], label: str) -> None:
    """Every step thin, and the mean of its neighbourhood (a twentieth of the run) thick."""
    (line,) = axes.plot(steps, values, alpha=0.3, linewidth=1)
    half = max(1, len(values) // 40)
    smooth = [
        sum(part) / len(part) for i in range(len(values)) if (part := values[max(0, i - half) : i + half + 1])
    ]
    axes.plot(steps, smooth, color=line.get_color(), linewidth=2, label=label)
