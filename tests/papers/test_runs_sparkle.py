"""runs/sparkle_*: published runs, each with its embedded twin: the same, but small."""

import importlib.util
import sys
from dataclasses import asdict

import pytest
import yaml
from trl import TrlParser

from spatialvlm.models import loading

TWINS = ("sparkle_sft", "sparkle_grpo")
QWEN = ("sparkle_qwen2vl_sft", "sparkle_qwen2vl_grpo")
# What a small model, its images and its sizes make different.
OF_THE_TWIN = {"profile", "model", "form", "eval_limit", "eval_batch_size", "max_steps", "learning_rate"}
OF_THE_TWIN |= {"prompts_per_device", "per_device_batch_size", "gradient_accumulation_steps"}
OF_THE_TWIN |= {"gradient_checkpointing", "max_completion_length", "lora_dropout"}


def args_of(name):
    """The Args class of the script that a configuration is for."""
    script = "sparkle_grpo" if name.endswith("grpo") else "sparkle_sft"
    spec = importlib.util.spec_from_file_location(script, loading.RUNS.parent / "model" / f"{script}.py")
    module = sys.modules[script] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Args


def parsed(name, profile="paper"):
    path = loading.config_for(f"{name}.yaml", profile)
    (args,) = TrlParser(args_of(name)).parse_args_and_config(["--config", str(path)])
    return asdict(args)


def differing(one, other):
    return {key for key in one if one[key] != other[key]}


def prompts(args):
    size = args.get("prompts_per_device") or args.get("per_device_batch_size")
    return size * args["gradient_accumulation_steps"]


def test_all_files_are_known():
    assert {path.stem for path in loading.RUNS.glob("sparkle_*.yaml")} == {*TWINS, *QWEN}
    assert {path.stem for path in (loading.RUNS / "embedded").glob("sparkle_*.yaml")} == set(TWINS)


@pytest.mark.parametrize("name", TWINS)
def test_the_twin_differs_in_model_pictures_and_size_alone(name):
    published, embedded = parsed(name), parsed(name, "embedded")
    assert differing(published, embedded) <= OF_THE_TWIN
    assert prompts(published) == prompts(embedded) == 16
    assert embedded["learning_rate"] == pytest.approx(10 * published["learning_rate"])


def test_sft_goes_once_through_the_published_questions():
    args = parsed("sparkle_sft")
    assert (args["configurations"], args["train_limit"]) == (2000, 34_000)
    assert args["max_steps"] * prompts(args) == 34_000


def test_sft_and_grpo_have_the_same_questions_and_adapter():
    same = {
        "data",
        "form",
        "capabilities",
        "numbers",
        "configurations",
        "train_limit",
        "lora_r",
        "lora_alpha",
    }
    for profile in ("paper", "embedded"):
        sft, grpo = parsed("sparkle_sft", profile), parsed("sparkle_grpo", profile)
        assert not differing(sft, grpo | {key: sft[key] for key in sft.keys() - grpo.keys()}) & same


@pytest.mark.parametrize("name", QWEN)
def test_qwen_differs_in_the_model_alone(name):
    twin = parsed(name.replace("qwen2vl_", ""))
    assert differing(twin, parsed(name)) == {"model", "run_name"}


@pytest.mark.parametrize("name", TWINS)
def test_a_file_knows_no_other_figure(name):
    for profile in ("paper", "embedded"):
        content = yaml.safe_load(loading.config_for(f"{name}.yaml", profile).read_text())
        assert content.keys() <= asdict(args_of(name)()).keys()
