"""Scripts run as a user runs them: each in its own process, or (quicker, for errors) in this one."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from pathlib import Path

import pytest
from processes import ROOT, launch, run, run_fresh, run_two

__all__ = ["ROOT", "launch", "refused", "run", "run_fresh", "run_here", "run_two"]


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
