"""A launch holds its run's folder; stopped, it leaves no process behind, whichever way its launcher ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from processes import ENVIRONMENT, LIMIT, ROOT

from spatialvlm import cli, distributed
from spatialvlm.errors import UserError
from spatialvlm.run_folder import Run

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Args:
    output_dir: str


def at_work(args: Args) -> None:
    """Say that this process is there, then wait for the other, which waits for nobody."""
    index = distributed.state().process_index
    run = distributed.on_main(lambda: Run(args.output_dir, {}))
    Path(args.output_dir, f"{index}.pid").write_text(str(os.getpid()))
    if index == 0:
        distributed.on_main(lambda: None)
    time.sleep(LIMIT)
    del run  # held until here


def wait_for(condition, seconds: float, process: subprocess.Popen) -> bool:
    end = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.1)
    return done or condition()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends processes with their parent")
def test_a_signal_to_the_launcher_alone_ends_all_processes(tmp_path):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--cpu", __file__]
    launches = {}
    for number in SIGNALS:
        folder = tmp_path / number.name
        folder.mkdir()
        paths = os.pathsep.join([str(ROOT), *sys.path])
        launches[number] = subprocess.Popen(
            [*launcher, "--output_dir", str(folder)],
            env=os.environ | ENVIRONMENT | {"PYTHONPATH": paths},
            stderr=(folder / "log").open("w"),
            start_new_session=True,  # as from a scheduler: nobody else sends them a signal
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore it
        )
    trees = []
    try:
        for number, launch in launches.items():
            pids = [tmp_path / number.name / f"{index}.pid" for index in (0, 1)]
            there = wait_for(lambda pids=pids: all(pid.exists() for pid in pids), LIMIT, launch)
            assert there, (tmp_path / number.name / "log").read_text()[-2000:]
            trees.append(psutil.Process(launch.pid).children(recursive=True))
            with pytest.raises(UserError, match="another process is writing to"):
                Run(tmp_path / number.name, {})
            assert len(trees[-1]) >= 3  # torchrun and two processes
        for number, launch in launches.items():
            launch.send_signal(number)
        for launch, tree in zip(launches.values(), trees, strict=True):
            launch.wait(60)
            gone, alive = psutil.wait_procs(tree, timeout=20)
            assert not alive, alive
    finally:
        for launch, tree in zip(launches.values(), trees, strict=False):
            for process in [launch, *tree]:
                if psutil.pid_exists(process.pid):
                    process.kill()


if __name__ == "__main__":
    cli.run(at_work, Args)
