"""runs/: one file a published run, with the published figures; its embedded twin is the same, but small."""

import importlib.util
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from trl import TrlParser

from spatialvlm import cli
from spatialvlm.models import loading
from spatialvlm.tasks.vsi.questions import FAMILIES

NAMES = ("pali_sat_grpo_v1", "pali_sat_grpo_v2", "pali_sat_sft")
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHARED = {"weight_decay": 0.01, "max_grad_norm": 1.0, "lora_dropout": 0.05, "train_limit": 15_000}
PUBLISHED = {
    "pali_sat_grpo_v1": {
        **{"lora_r": 8, "lora_alpha": 16, "lora_target_modules": ["q_proj", "v_proj"], "beta": 0.04},
        **{"dynamic_sampling": False, "num_generations": 4, "temperature": 1.0, "learning_rate": 2e-5},
        **{"prompts_per_device": 1, "gradient_accumulation_steps": 16, "max_steps": 1000},
    },
    "pali_sat_grpo_v2": {
        **{"lora_r": 16, "lora_alpha": 32, "lora_target_modules": ALL, "beta": 0.01},
        **{"dynamic_sampling": True, "num_generations": 4, "temperature": 1.0, "learning_rate": 2e-5},
        **{"prompts_per_device": 1, "gradient_accumulation_steps": 16, "max_steps": 1000},
    },
    "pali_sat_sft": {
        **{"lora_r": 16, "lora_alpha": 32, "lora_target_modules": ALL, "learning_rate": 1e-5},
        **{"per_device_batch_size": 8, "gradient_accumulation_steps": 2, "max_steps": 2000},
    },
}
# What a small model, its data and its sizes make different.
OF_THE_TWIN = {"profile", "data", "eval_data", "train_limit", "answer_form", "max_completion_length"}
OF_THE_TWIN |= {"max_steps", "learning_rate", "gradient_accumulation_steps"}
OF_THE_TWIN |= {"prompts_per_device", "per_device_batch_size", "eval_batch_size", "gradient_checkpointing"}


def args_of(name):
    """The Args class of the script that a configuration is for."""
    kind = name.rpartition("_")[2]
    family = "vsi" if name.startswith("vsgrpo") else "pali_sat"
    script = f"{family}_{kind if kind in ('sft', 'dpo') else 'grpo'}"
    path = loading.RUNS.parent / "model" / f"{script}.py"
    spec = importlib.util.spec_from_file_location(script, path)
    module = sys.modules[script] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Args


def parsed(name, profile):
    path = loading.config_for(f"{name}.yaml", profile)
    (args,) = TrlParser(args_of(name)).parse_args_and_config(["--config", str(path)])
    return asdict(args)


def prompts_a_step(args):
    size = args.get("prompts_per_device") or args.get("per_device_batch_size")
    return size * args["gradient_accumulation_steps"]


@pytest.mark.parametrize("name", NAMES)
def test_published_figures(name):
    found = parsed(name, "paper")
    wanted = (
        SHARED | PUBLISHED[name] | {"lora_scope": "language", "answer_form": "natural", "data": "array/SAT"}
    )
    assert {key: found[key] for key in wanted} == wanted
    assert prompts_a_step(found) == 16


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_differs_in_model_data_and_size_alone(name):
    published, embedded = parsed(name, "paper"), parsed(name, "embedded")
    assert {key for key in published if published[key] != embedded[key]} <= OF_THE_TWIN
    assert prompts_a_step(embedded) == prompts_a_step(published)
    assert embedded["learning_rate"] == pytest.approx(10 * published["learning_rate"])
    passes = [args["max_steps"] * 16 / args["train_limit"] for args in (published, embedded)]
    assert passes[0] == pytest.approx(passes[1], rel=0.15), "as many passes over the data"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_every_figure_and_knows_no_other(name):
    for profile in ("paper", "embedded"):
        content = yaml.safe_load(loading.config_for(f"{name}.yaml", profile).read_text())
        assert PUBLISHED[name].keys() | SHARED.keys() <= content.keys()
        assert content.keys() <= asdict(args_of(name)()).keys()


def test_without_arguments_it_is_v2():
    """The classes' own defaults are the published figures too."""
    default, published = asdict(args_of("pali_sat_grpo_v2")()), parsed("pali_sat_grpo_v2", "paper")
    assert default | {"profile": "paper"} == published
    default, published = asdict(args_of("pali_sat_sft")()), parsed("pali_sat_sft", "paper")
    assert default | {"profile": "paper"} == published


# ---- vsGRPO: a row of the paper's table each

VSGRPO = ("2b_sft", "2b_dpo", "2b_t", "2b_o", "2b_v", "7b_sft", "7b_dpo", "7b_v")
PROMPTS = {"t": "think", "o": "observe", "v": "vanilla"}


@pytest.mark.parametrize("row", VSGRPO)
def test_published_figures_of_vsgrpo(row):
    size, kind = row.split("_")
    found = parsed(f"vsgrpo_{row}", "paper")
    wanted = {
        "model": f"Qwen/Qwen2-VL-{size.upper()}-Instruct",
        "learning_rate": {"2b": 1e-5, "7b": 5e-6}[size],
        "num_frames": 16,
        "families": list(FAMILIES),
        "eval_data": "nyu-visionx/VSI-Bench",
    }
    if kind in PROMPTS:
        wanted |= {"prompt": PROMPTS[kind], "num_generations": 14, "beta": 1e-4, "temperature": 1.0}
        wanted |= {"dynamic_sampling": False, "reward": "relative"}
    assert {key: found[key] for key in wanted} == wanted
    assert prompts_a_step(found) == 8


@pytest.mark.parametrize("row", [row for row in VSGRPO if row.startswith("2b")])
def test_vsgrpos_twin_differs_in_model_data_and_size_alone(row):
    published, embedded = parsed(f"vsgrpo_{row}", "paper"), parsed(f"vsgrpo_{row}", "embedded")
    sizes = {"model", "run_name", "num_frames", "eval_limit"}
    assert {key for key in published if published[key] != embedded[key]} <= OF_THE_TWIN | sizes
    kind = row.split("_")[1]
    assert prompts_a_step(embedded) == prompts_a_step(published) * (2 if kind == "sft" else 1)
    times = {"sft": 100, "dpo": 10}.get(kind, 30)
    assert embedded["learning_rate"] == pytest.approx(times * published["learning_rate"])
    assert embedded["data"] == embedded["eval_data"] == "embedded" and embedded["num_frames"] == 1


def test_there_is_no_other_run_of_vsgrpo():
    assert {path.stem for path in loading.RUNS.glob("vsgrpo_*")} == {f"vsgrpo_{row}" for row in VSGRPO}


@pytest.mark.parametrize(
    ("argv", "steps"),
    [
        ([], 60),
        (["--profile", "paper"], 1000),
        (["--profile=paper", "--max_steps", "7"], 7),
        (["--config", str(loading.RUNS / "embedded/pali_sat_grpo_v1.yaml"), "--seed", "3"], 60),
        ([f"--config={loading.RUNS / 'pali_sat_grpo_v1.yaml'}"], 1000),
    ],
)
def test_which_configuration_a_command_takes(argv, steps, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = cli.run(
        lambda args: args,
        args_of("pali_sat_grpo_v2"),
        argv,
        default_config=lambda profile: loading.config_for("pali_sat_grpo_v2.yaml", profile),
    )
    assert found.max_steps == steps


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learning_rate: fast", "fast"),
        ("lerning_rate: 1", "lerning_rate"),
        ("- 1", "mapping"),
        (None, "No such file"),
    ],
)
def test_a_configuration_that_makes_no_sense(tmp_path, content, message, capsys):
    path = Path(tmp_path) / "run.yaml"
    if content:
        path.write_text(content)
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda args: args, args_of("pali_sat_grpo_v2"), ["--config", str(path)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
