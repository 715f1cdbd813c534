"""Every configuration and every evaluation as it is by default fits a T4 by the plan; README has how much."""

import re
from pathlib import Path

import memory
import pytest

from spatialvlm.models import loading

ROOT = Path(memory.__file__).resolve().parents[1]
LARGER = {"vsgrpo_7b_dpo": "A100", "vsgrpo_7b_sft": "A100", "vsgrpo_7b_v": "A100"}  # 16.6 GB of weights
PLANS = {name: name for name in memory.SCRIPTS}
PLANS |= {script: Path(of.config).stem for script, of in memory.SCRIPTS.items() if of.config}


def test_every_script_that_loads_a_model_for_its_work_is_planned():
    scripts = {path.name for path in ROOT.glob("eval_*.py")}
    scripts |= {f"model/{path.name}" for path in (ROOT / "model").glob("*.py")}
    studies = {script for script in scripts if script.startswith("model/reproduce_")}
    assert scripts - studies < set(memory.SCRIPTS)


@pytest.mark.slow
def test_all_fit_a_t4_or_the_card_that_their_file_names():
    planned = dict(memory.planned())
    assert {path.stem for path in loading.RUNS.glob("*.yaml")} < set(planned)
    for name, made in planned.items():
        card = LARGER.get(name, "T4")
        assert memory.fitting(made.highest()[1])[card], f"{name}: {made.highest()[1] / 1e9:.1f} GB, {card}"
        if name in LARGER:
            assert not memory.fitting(made.highest()[1])["V100"]
            assert card in (loading.RUNS / f"{name}.yaml").read_text(encoding="utf-8").partition("\n\n")[0]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for script, name in PLANS.items():
        held = (planned[name].highest()[1] + memory.CUDA_CONTEXT) / 1e9
        text = " ".join((ROOT / script).read_text(encoding="utf-8").split())
        said = re.findall(r"([\d.]+) GB on the GPU", text)
        said += re.findall(rf"\| `{re.escape(script)}` .*\| ([\d.]+) \|\n", readme)
        assert len(said) == 2, f"{script}: its docstring and README's table say what it takes of a GPU"
        assert [float(figure) for figure in said] == pytest.approx([held] * 2, abs=0.06), script
