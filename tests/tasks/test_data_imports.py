"""Importing a benchmark's data brings in neither a renderer nor torch."""

import json
import subprocess
import sys
from pathlib import Path

import spatialvlm.tasks

FOLDERS = sorted(file.parent.name for file in Path(spatialvlm.tasks.__path__[0]).glob("*/data.py"))
CODE = """
import importlib, json, re, sys
heavy = {}
for name in sys.argv[1:]:
    importlib.import_module(f"spatialvlm.tasks.{name}.data")
    heavy[name] = [
        m for m in sys.modules if m == "torch" or re.fullmatch(r"spatialvlm\\.worlds\\..*\\.render", m)
    ]
print(json.dumps(heavy))
"""


def test_data_modules_import_no_renderer_and_no_torch():
    assert {"cvbench", "clevr", "counting", "sat", "sparkle", "vsi", "vsr", "whatsup"} <= {*FOLDERS}
    run = subprocess.run([sys.executable, "-c", CODE, *FOLDERS], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == {name: [] for name in FOLDERS}
