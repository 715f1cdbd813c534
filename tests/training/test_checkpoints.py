"""What is saved is whole and comes back bit for bit; what is damaged, foreign or unwritable is reported."""

import itertools
import json

import pytest
import torch
from test_grpo import arguments, by_length, examples, with_adapter

from spatialvlm.errors import UserError
from spatialvlm.run_folder import Run
from spatialvlm.training import checkpoints, grpo, loop
from spatialvlm.training.checkpoints import Checkpoints


def train(folder, resume=None, every=1, keep=9, reward=by_length, **options):
    """(trainer, run) of a run in `folder`, resumed from the checkpoint `resume`."""
    run = Run(folder, {"seed": 0})
    saving = Checkpoints(run, {"seed": 0}, every, keep)
    if resume is not None:
        saving.restore(resume)
    model = with_adapter(dropout=0.1)
    args = arguments(max_steps=6, **options)
    log = lambda row, _: run.log(**row)  # noqa: E731
    trainer = grpo.Trainer(*model, examples(), reward, args)
    return loop.train(trainer, log, saving, resume), run


def state(trainer):
    """Everything that a run is, apart from the clock."""
    moments = [
        trainer.optimizer.state[p][name] for p in trainer.parameters for name in ("exp_avg", "exp_avg_sq")
    ]
    return [p.detach().clone() for p in trainer.parameters] + [torch.as_tensor(m).clone() for m in moments]


def rows(run):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in run.metrics()]


def same(first, second):
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_a_resumed_run_ends_as_one_never_stopped(tmp_path, schedule):
    whole, run = train(tmp_path / "whole", lr_scheduler=schedule, warmup_steps=2)
    expected, wanted = state(whole), rows(run)
    for step in (1, 3, 5):
        halfway = tmp_path / "whole" / f"checkpoint-{step}"
        again, other = train(tmp_path / f"from-{step}", halfway, lr_scheduler=schedule, warmup_steps=2)
        assert same(state(again), expected) and rows(other) == wanted
        assert again.drawn == whole.drawn
    assert not same(expected, state(train(tmp_path / "other", lr_scheduler=schedule, seed=1)[0]))


def test_the_newest_are_kept_and_each_is_a_peft_adapter(tmp_path):
    train(tmp_path, every=2, keep=2)
    assert [path.name for path in checkpoints.newest_first(tmp_path)] == ["checkpoint-6", "checkpoint-4"]
    assert {path.name for path in (tmp_path / "checkpoint-6").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "optimizer.safetensors",
        "trainer.json",
        "metrics.jsonl",
        "manifest.json",
    }
    assert not list(tmp_path.glob(".*partial"))
    assert len((tmp_path / "checkpoint-4/metrics.jsonl").read_text().splitlines()) == 4


def test_a_checkpoint_made_again_takes_the_place_of_the_old_one(tmp_path):
    """As where the newest was passed over, and training comes to its step again."""
    trainer, run = train(tmp_path, every=3)
    saving = Checkpoints(run, {"seed": 0})
    before = (tmp_path / "checkpoint-3/adapter_model.safetensors").read_bytes()
    saving.save(3, trainer.save)
    assert (tmp_path / "checkpoint-3/adapter_model.safetensors").read_bytes() != before
    assert {path.name for path in checkpoints.newest_first(tmp_path)} == {"checkpoint-3", "checkpoint-6"}
    (tmp_path / "checkpoint-6/trainer.json").unlink()
    assert saving.newest(tmp_path) == tmp_path / "checkpoint-3" and not list(tmp_path.glob(".checkpoint*"))


def test_a_checkpoint_too_many_or_too_few(tmp_path):
    saving = Checkpoints(Run(tmp_path, {}), {}, every=4)
    assert [step for step in range(1, 11) if saving.due(step, 10)] == [4, 8, 10]
    assert saving.newest(tmp_path) is None
    Checkpoints(None, {}).save(3, lambda folder: pytest.fail("only the main process writes"))


# ---- what goes wrong


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "cut off": (cut, "adapter_model.safetensors is not as it was written"),
    "one bit": (flip, "adapter_model.safetensors is not as it was written"),
    "missing": (lambda file: file.unlink(), "adapter_model.safetensors is missing"),
    "manifest": (lambda file: cut(file.with_name("manifest.json")), "manifest.json cannot be read"),
    "none": (lambda file: file.with_name("manifest.json").unlink(), "no manifest.json"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_and_reported(tmp_path, capsys, damage, message):
    _, run = train(tmp_path, every=3)
    saving = Checkpoints(run, {"seed": 0})
    damage(tmp_path / "checkpoint-6/adapter_model.safetensors")
    if "manifest.json cannot" in message:
        (tmp_path / "checkpoint-6/manifest.json").write_text("{")
    assert saving.newest(tmp_path) == tmp_path / "checkpoint-3"
    printed = capsys.readouterr().out
    assert "checkpoint-6 is damaged" in printed and message in printed
    (tmp_path / "checkpoint-3/optimizer.safetensors").unlink()
    with pytest.raises(UserError, match="no checkpoint in .* is whole; delete them"):
        saving.newest(tmp_path)


def test_other_arguments_are_refused_by_name(tmp_path):
    _, run = train(tmp_path)
    other = Checkpoints(run, {"seed": 1, "beta": 0.5, "output_dir": "x"}, may_differ=["output_dir"])
    with pytest.raises(UserError, match="beta was None, now 0.5; seed was 0, now 1") as caught:
        other.newest(tmp_path)
    assert "output_dir" not in str(caught.value) and "--resume" in str(caught.value)


@pytest.mark.parametrize("files", range(4))
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, files, monkeypatch):
    """/dev/full takes no byte: the kernel's own "no space left", at the file written after `files` others."""
    trainer, run = train(tmp_path, every=3)
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoint-6").iterdir()}
    saving, count = Checkpoints(run, {"seed": 0}), itertools.count()

    def write(folder):
        names = ["adapter_model.safetensors", "adapter_config.json", "optimizer.safetensors", "trainer.json"]
        for name in names[files : files + 1]:
            (folder / name).symlink_to("/dev/full")
        next(count)
        trainer.save(folder)

    for step in (6, 7):
        with pytest.raises(UserError, match=f"no space left to write .*checkpoint-{step}"):
            saving.save(step, write)
    assert next(count) == 2
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoint-6").iterdir()} == before
    assert saving.newest(tmp_path) == tmp_path / "checkpoint-6" and not list(tmp_path.glob(".*partial"))


def test_what_a_kill_left_is_no_checkpoint(tmp_path):
    trainer, run = train(tmp_path, every=6)
    torn = tmp_path / ".checkpoint-7.partial"
    torn.mkdir()
    (torn / "adapter_model.safetensors").write_bytes(b"torn")
    saving = Checkpoints(run, {"seed": 0})
    assert saving.newest(tmp_path) == tmp_path / "checkpoint-6"
    saving.save(7, trainer.save)
    assert saving.newest(tmp_path) == tmp_path / "checkpoint-7" and not torn.exists()


def test_metrics_and_samples_after_the_checkpoint_are_forgotten(tmp_path):
    _, run = train(tmp_path, every=3)
    run.add_completions([{"step": step, "completions": ["red"]} for step in (2, 5)])
    assert Checkpoints(run, {}).restore(tmp_path / "checkpoint-3") == 3
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 4
    said = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text().splitlines()]
    assert [row["step"] for row in said] == [2]
