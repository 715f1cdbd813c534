"""README's sizes of the published commands are those of their `--help`; test_all_plans has GPU memory."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import memory
import pytest

ROOT = Path(__file__).parents[2]
LINE = re.compile(
    r"Published: ([\d.]+) GB model, ([\d.]+) GB data \((.*?)\); ([\d.]+) GB of disk, ([\d.]+) GB of memory, "
    r"([\d.]+) GB on the GPU\."
)


def in_readme() -> dict[str, list[str]]:
    """The cells of README's table by script: model, data, which data, disk, memory, GPU."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| command | model, GB |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    return {script.strip("`"): rest for script, *rest in cells}


def test_every_published_script_is_listed_once():
    assert set(in_readme()) == set(memory.SCRIPTS)


@pytest.mark.parametrize("script", memory.SCRIPTS)
def test_readme_and_help_say_the_same(script):
    docstring = ast.get_docstring(ast.parse((ROOT / script).read_text(encoding="utf-8")))
    (said,) = LINE.findall(" ".join(docstring.split()))
    assert list(said) == in_readme()[script]
    model, data, _, disk, _, _ = said
    assert float(disk) >= float(model) + float(data)
