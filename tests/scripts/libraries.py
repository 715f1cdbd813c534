"""Imported once by the fork server of `processes`: what scripts take from elsewhere, nothing of ours."""

import importlib
import sys

PLAIN = [folder for folder in sys.path if folder != __file__.rpartition("/")[0]]  # as `python` itself has it

for name in (
    "spatialvlm.reporting.tables",
    "spatialvlm.prompting.study",
    "spatialvlm.tasks.cvbench.data",
    "spatialvlm.training.dpo",
    "spatialvlm.training.grpo",
    "spatialvlm.training.sft",
    "matplotlib.figure",
    "transformers.models.gemma2.modeling_gemma2",
    "transformers.models.paligemma.modeling_paligemma",
    "transformers.models.siglip.modeling_siglip",
):
    importlib.import_module(name)
for name in [name for name in sys.modules if name.partition(".")[0] == "spatialvlm"]:
    del sys.modules[name]  # every script imports them itself, as it would in a fresh interpreter
