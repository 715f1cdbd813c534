"""Metrics reach a tracker, samples the screen, curves the run folder; a missing tracker is reported."""

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spatialvlm.errors import UserError
from spatialvlm.run_folder import Run
from spatialvlm.training import tracking

STEPS = range(1, 31)


def grpo_row(step):
    row = {"reward": step / 30, "informative": 0.5, "dropped": 0.5, "loss": 1 / step, "kl": 0.01 * step}
    return {"step": step, **row, "completion_length": 3.0, **({"reward_kept": 0.4} if step % 2 else {})}


@pytest.mark.slow
def test_curves_of_a_grpo_run_and_of_an_sft_run(tmp_path):
    runs = {name: Run(tmp_path / name, {}) for name in ("grpo", "sft")}
    for step in STEPS:
        runs["grpo"].log(**grpo_row(step))
        runs["sft"].log(step=step, loss=1 / step, lr=0.1)
    drawn = {name: tracking.plot(run) for name, run in runs.items()}
    names = {name: {file.name for file in files} for name, files in drawn.items()}
    assert names["grpo"] == {"reward.png", "loss.png", "kl.png", "informative.png", "length.png"}
    assert names["sft"] == {"loss.png"}
    for file in drawn["grpo"]:
        pixels = np.asarray(Image.open(file).convert("RGB"))
        assert min(pixels.shape[:2]) > 300 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    assert not tracking.plot(Run(tmp_path / "empty", {}))


def test_metrics_reach_tensorboard(tmp_path):
    tracker = tracking.Tracker("tensorboard", tmp_path, {"beta": 0.01, "lora_target_modules": ["q_proj"]})
    for step in STEPS:
        tracker.log(grpo_row(step))
    tracker.finish()
    logs = [EventAccumulator(str(file)).Reload() for file in tmp_path.glob("**/events.out.tfevents.*")]
    found = [(e.step, e.value) for log in logs if "kl" in log.Tags()["scalars"] for e in log.Scalars("kl")]
    assert [step for step, _ in found] == list(STEPS)
    assert [value for _, value in found] == pytest.approx([0.01 * step for step in STEPS])


def test_no_tracker_and_one_that_is_not_installed(tmp_path, monkeypatch):
    tracker = tracking.Tracker("none", tmp_path, {})
    tracker.log(grpo_row(1)), tracker.finish()
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(tracking.AVAILABLE, "trackio", lambda: False)
    with pytest.raises(UserError, match="--report_to trackio .* pip install trackio"):
        tracking.Tracker("trackio", tmp_path, {})


def test_a_sample_on_the_screen(capsys):
    sample = {
        "prompt": "Where is\nit?",
        "answer": "left",
        "completions": ["left", "up"],
        "rewards": [1.0, 0.0],
    }
    tracking.show(7, sample)
    assert capsys.readouterr().out == "step 7: Where is it?\n  right: 'left'; sampled: 'left' 1, 'up' 0\n"
