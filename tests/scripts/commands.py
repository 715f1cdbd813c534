"""Scripts run as a user runs them: each in its own process, or (quicker, for errors) in this one."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(script: str, *flags: str, folder: Path) -> str:
    """stdout of `python <script> <flags>` in another folder; the exit code must be 0."""
    command = [sys.executable, str(ROOT / script), *map(str, flags)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def run_here(script: str, *flags: str, folder: Path) -> str:
    """As `run`, but in this process, which has the libraries imported already."""
    before, printed = sys.argv, io.StringIO()
    sys.argv = [script, *map(str, flags)]
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
            runpy.run_path(str(ROOT / script), run_name="__main__")
    finally:
        sys.argv = before
    return printed.getvalue()


def refused(script: str, *flags: str, capsys) -> str:
    """The one line on stderr with which a script refuses its flags, exit code 2."""
    before = sys.argv
    sys.argv = [script, *map(str, flags)]
    try:
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / script), run_name="__main__")
    finally:
        sys.argv = before
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, lines
    return lines[0]
