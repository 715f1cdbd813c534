"""Scripts run as a user runs them: each in its own process, or (quicker, for errors) in this one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spatialvlm import cli

ROOT = Path(__file__).resolve().parents[2]


def run(script: str, *flags: str, folder: Path) -> str:
    """stdout of `python <script> <flags>` in another folder; the exit code must be 0."""
    command = [sys.executable, str(ROOT / script), *map(str, flags)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def refused(script: str, *flags: str, capsys) -> str:
    """The one line on stderr with which a script refuses its flags, exit code 2."""
    name = Path(script).stem
    spec = importlib.util.spec_from_file_location(name, ROOT / script)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where flags' types are looked up
    spec.loader.exec_module(module)
    with pytest.raises(SystemExit) as stop:
        cli.run(module.main, module.Args, [str(flag) for flag in flags])
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, lines
    return lines[0]
