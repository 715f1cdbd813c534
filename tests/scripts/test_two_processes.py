"""Training by two real processes is training by one with the same prompts per step, and resumes as well."""

from __future__ import annotations

import json
import shutil
from io import BytesIO
from pathlib import Path

import pandas
import pytest
from commands import launch, run, run_two
from processes import together
from safetensors.torch import load_file
from tiny import image

pytestmark = pytest.mark.slow

STEPS, RATE = 4, 1e-3
# In a weight after all steps: sums of about 10^4 float32 terms that come out in another order.
ROUNDING = STEPS * RATE * 100 * 2**-24
SMALL = f"--profile embedded --max_steps {STEPS} --save_steps 2 --train_limit 16"
SMALL += " --eval_limit 13 --eval_batch_size 4"
SMALL += f" --lora_dropout 0 --learning_rate {RATE}"
SCRIPTS = {  # flags, and those that shard a step's prompts over one process and over two
    "model/pali_sat_grpo.py": ("--num_generations 3 --max_resamples 2", "--prompts_per_device"),
    "model/pali_sat_sft.py": ("", "--per_device_batch_size"),
}


def metrics(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.fixture(scope="module", params=SCRIPTS)
def one(request, tmp_path_factory):
    """(script, flags, folder) of a training by one process."""
    more, per_process = SCRIPTS[request.param]
    flags = [
        *SMALL.split(),
        *more.split(),
        "--gradient_accumulation_steps",
        1,
        "--output_dir",
        "run",
        per_process,
    ]
    folder = tmp_path_factory.mktemp("one")
    run(request.param, *flags, 4, folder=folder)
    return request.param, flags, folder


@pytest.mark.parametrize("sharded", [False, True], ids=["whole", "sharded"])
def test_two_processes_equal_one_and_resume(one, sharded, tmp_path):
    script, flags, one = one
    two = tmp_path / "two"
    two.mkdir()
    shared = [*flags, 2, *["--shard_base"] * sharded]
    done = run_two(script, *shared, folder=two)
    assert done.returncode == 0, done.stderr[-9000:]
    assert done.stdout.count("profile: embedded") == done.stdout.count("written to run") == 1
    for found, wanted in zip(metrics(two / "run"), metrics(one / "run"), strict=True):
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    adapters = [load_file(folder / "run/adapter/adapter_model.safetensors") for folder in (one, two)]
    for name, tensor in adapters[0].items():
        difference = (adapters[1][name] - tensor).abs()
        assert difference.median() <= 10 * ROUNDING, name
        # Adam divides a gradient by its size. The smallest of n entries is some n times smaller than most
        # are, and there the same rounding weighs n times as much.
        assert difference.max() <= min(tensor.numel() * ROUNDING, 2 * STEPS * RATE), name
    for part in ("base", "trained", "shuffled"):
        files = [folder / "run" / part / "predictions.jsonl" for folder in (one, two)]
        assert files[0].read_bytes() == files[1].read_bytes(), part
        assert files[1].read_bytes().count(b"\n") == 13

    if sharded:  # checkpoints are no others: adapters are whole on every process
        return
    stopped, alone = tmp_path / "stopped", tmp_path / "alone"
    for copy in (stopped, alone):
        shutil.copytree(two, copy)  # as it was when two steps were done
        for name in ("checkpoint-4", "adapter", "trained", "shuffled"):
            shutil.rmtree(copy / "run" / name)
    done = run_two(script, *shared, "--resume", folder=stopped)
    assert done.returncode == 0, done.stderr[-9000:]
    assert "resuming run after step 2" in done.stdout
    assert metrics(stopped / "run") == metrics(two / "run")
    for name in ("adapter/adapter_model.safetensors", "trained/predictions.jsonl"):
        assert (stopped / "run" / name).read_bytes() == (two / "run" / name).read_bytes()

    # One process with these flags would learn from half the prompts; with twice the accumulation it agrees.
    done = together(script, (*shared, "--resume"), alone, [{}])
    assert done.returncode == 2 and "--gradient_accumulation_steps 2 makes them 4" in done.stderr
    run(script, *shared, "--resume", "--gradient_accumulation_steps", 2, folder=alone)
    for found, wanted in zip(metrics(alone / "run"), metrics(one / "run"), strict=True):
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def png(number: int, broken: bool) -> bytes:
    stream = BytesIO()
    image(number).save(stream, "PNG")
    return stream.getvalue()[: 100 if broken else None]


def test_an_error_on_one_process_ends_the_launch(tmp_path):
    """The second process alone meets a broken image; the first must not wait for it."""
    rows = [{"question": f"Is it {i}?", "answers": ["yes", "no"], "question_type": "q"} for i in range(8)]
    for number, row in enumerate(rows):
        row |= {"image_bytes": [png(number, number == 5)], "correct_answer": "yes"}
    pandas.DataFrame(rows).to_parquet(tmp_path / "sat.parquet")
    flags = "--profile embedded --eval_limit 4 --prompts_per_device 4 --max_steps 1 --data sat.parquet"
    done = launch("model/pali_sat_grpo.py", *flags.split(), folder=tmp_path)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "cannot be read" in errors[0]
