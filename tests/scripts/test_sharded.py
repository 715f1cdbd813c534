"""Two real processes equal one: the same records and files, however sharded, and either resumes the other."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
import tiny
from accelerate import PartialState
from commands import ROOT, run_two

from spatialvlm import cli, distributed
from spatialvlm.evaluation import evaluate
from spatialvlm.evaluation.benchmark import STRICT_CHOICE, Benchmark, micro_and_mean
from spatialvlm.evaluation.evaluate import predict
from spatialvlm.example import Example

pytestmark = pytest.mark.slow

SCRIPT = "eval_paligemma_cvbench.py"
LIMIT = timedelta(seconds=3)  # of collectives, in place of 10 or 30 minutes


# ---- the script on the embedded model


def cut(run: Path, rows: int) -> None:
    """Leaves a run as a kill does: some rows, the next one torn, no summary."""
    file = run / "predictions.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:rows]) + lines[rows][:20])
    (run / "summary.json").unlink()


def scores(run: Path) -> dict:
    summary = json.loads((run / "summary.json").read_text())
    return {name: summary[name] for name in ("n", "unread", "chance", "aggregates", "tasks")}


def test_a_run_goes_on_with_two_processes_and_back_with_one(tmp_path):
    script = runpy.run_path(str(ROOT / SCRIPT))
    flags = {"profile": "embedded", "limit": 13, "num_samples": 2}

    def alone(folder: str, batch_size: int) -> None:
        output = {"output_dir": str(tmp_path / folder), "batch_size": batch_size}
        script["main"](script["Args"](**flags, **output))

    alone("one", 4)
    expected = (tmp_path / "one/predictions.jsonl").read_bytes()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    two = tmp_path / "two"
    cut(two, 3)
    in_flags = [part for name, value in flags.items() for part in (f"--{name}", value)]
    done = run_two(SCRIPT, *in_flags, "--batch_size", 4, "--output_dir", "two", folder=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("profile: embedded") == done.stdout.count("written to two") == 1
    assert "two has 3 of 13 answers already" in done.stdout and "13/13" in done.stderr
    assert (two / "predictions.jsonl").read_bytes() == expected and scores(two) == scores(tmp_path / "one")

    cut(two, 10)
    alone("two", 2)
    assert (two / "predictions.jsonl").read_bytes() == expected and scores(two) == scores(tmp_path / "one")


# ---- the package on a tiny model; this file is what is launched


@dataclass
class Args:
    output_dir: str


def questions() -> list[Example]:
    """13 of different lengths, an image each."""
    choices = ("cube", "sphere")
    return [
        Example(f"q{i}", (tiny.image(i),), "what is left of the" + " red" * i, "(A)", "Relation", choices)
        for i in range(13)
    ]


def answers(args: Args) -> dict:
    """Records and summary as this process has them: of more questions than a round takes, and of one."""
    model, processor = tiny.paligemma()
    found = {}
    for count in (1, 13):
        for num_samples in (1, 3):
            options = {"batch_size": 4, "max_new_tokens": 4, "num_samples": num_samples}
            asked = questions()[:count]
            found[f"{count}-{num_samples}"] = predict(model, processor, asked, **options)
    options = evaluate.Args(output_dir=args.output_dir, batch_size=3)
    bench = Benchmark("bench", None, {"strict": STRICT_CHOICE}, micro_and_mean)
    found["records"], found["summary"] = evaluate.run(model, processor, questions(), bench, options)
    return json.loads(json.dumps(found))


def launched(args: Args) -> None:
    """Leaves this process's answers, then meets a broken image in the second process's first batch."""
    found = answers(args)
    Path(f"{PartialState().process_index}.json").write_text(json.dumps(found))
    examples = questions()
    examples[6] = replace(examples[6], images=(Path("broken.png"),))
    predict(*tiny.paligemma(), examples, batch_size=4)


def test_every_process_returns_what_one_alone_does_and_they_end_together(tmp_path):
    tiny.image(0).save(tmp_path / "broken.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "broken.png").read_bytes()[:200])
    done = run_two(__file__, "--output_dir", "together", folder=tmp_path, paths=str(ROOT / "tests"))

    alone = answers(Args(str(tmp_path / "alone")))
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    for found in (alone, first):
        del found["summary"]["seconds"], found["summary"]["peak_memory_bytes"]
    assert first == alone
    assert len({record["completions"][0] for record in first["13-3"]}) > 1  # or it would prove little
    rows = [(tmp_path / name / "predictions.jsonl").read_bytes() for name in ("alone", "together")]
    assert rows[0] == rows[1] and done.stdout.count("written to together") == 1

    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "broken.png cannot be read" in lines[0]
    assert done.codes == [2, 2] and "UserError" not in done.stderr


# ---- waiting


def slow_main(args: Args) -> None:
    """The main process takes longer than collectives may, and is waited for; then it dies at work."""
    found = distributed.on_main(lambda: time.sleep(2 * LIMIT.seconds) or "downloaded")
    Path(f"{args.output_dir}-{distributed.state().process_index}").write_text(found)
    distributed.on_main(lambda: os._exit(3))


def test_work_longer_than_the_time_limit_is_waited_for_but_not_a_dead_process(tmp_path):
    done = run_two(__file__, "--output_dir", "waited", folder=tmp_path, paths=str(ROOT / "tests"))
    assert [(tmp_path / f"waited-{rank}").read_text() for rank in (0, 1)] == ["downloaded"] * 2, done.stderr
    assert done.codes[0] == 3 and done.codes[1] not in (0, None), done.codes


if __name__ == "__main__":
    if "waited" in sys.argv:
        PartialState(cpu=True, timeout=LIMIT)
        cli.run(slow_main, Args)
    else:
        cli.run(launched, Args)
