"""The plan against what real steps take: torch's own record of allocations, and the process's memory."""

import gc
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import memory
import pytest
import tiny
import tiny_chat
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import Gemma2Config, PaliGemmaConfig, Qwen2VLConfig, SiglipVisionConfig

from spatialvlm.evaluation import evaluate
from spatialvlm.example import Example, Video
from spatialvlm.models import qwen, rollout, shapes
from spatialvlm.training import dpo, grpo, loop, sft

RUNS = Path(__file__).resolve().parents[2] / "runs"
IMAGE_TOKENS, TEXT_TOKENS, VOCABULARY, LENGTH = 64, 10, 5000, 8
ANSWER = " ".join(["red"] * (LENGTH - 1))  # with its end token as long as a completion may be


@pytest.fixture(autouse=True)
def larger_images(monkeypatch):
    monkeypatch.setattr(tiny, "IMAGE_SIZE", 112)


def shape(vocab_size=VOCABULARY, **options):
    """Small, but every part of a step is a good share of it."""
    special = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    text = dict(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        query_pre_attn_scalar=16,
    )
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=112,
        patch_size=14,
        projection_dim=64,
        vision_use_head=False,
    )
    return PaliGemmaConfig(
        vision_config=vision,
        text_config=Gemma2Config(**(text | options), **special),
        projection_dim=64,
        hidden_size=64,
        image_token_index=tiny.processor().image_token_id,
        **special,
    )


def examples(count=8):
    question = "what is left of the red cube ?"
    return [Example(str(i), (tiny.image(i),), question, ANSWER, "left") for i in range(count)]


def with_adapter(args, dtype=torch.float32):
    gc.collect()  # so that nothing made before is freed while something is measured
    torch.manual_seed(0)
    return loop.add_adapter(shapes.random_model(shape(), dtype), args)


def held(model, optimizer=None):
    """Bytes of weights, adapters and optimizer states."""
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [t for state in optimizer.state.values() for t in state.values()] if optimizer else []
    return sum(tensor.nbytes for tensor in tensors)


def most_allocated(work, folder):
    """How far `work` raises the bytes that torch has allocated, by torch's own record of every block."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as made:
        work()
    made.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    blocks = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]")
    now = most = 0
    for _, size in blocks:
        now += size
        most = max(most, now)
    return most


def grpo_trainer(dtype=torch.float32, **options):
    """Under way: AdamW has its states."""
    args = grpo.GRPOArgs(**options)
    model = with_adapter(args, dtype)
    trainer = grpo.Trainer(model, tiny.processor(), examples(), lambda text, _: float(len(text)), args)
    for parameter in trainer.parameters:
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    return trainer


SFT = memory.args_of("model/pali_sat_sft.py")


def planned(kind=memory.Args, **options):
    return memory.plan(kind(device="cpu", text_tokens=TEXT_TOKENS, **options), shape())


SHARED = {"gradient_accumulation_steps": 2, "eval_batch_size": 3, "dtype": "float32"}
SETTINGS = SHARED | {"prompts_per_device": 1, "max_completion_length": LENGTH}
SFT_SETTINGS = SHARED | {"answer_tokens": LENGTH}


@pytest.mark.parametrize(
    "options",
    [
        {"num_generations": 14, "max_completion_length": 16},
        {"num_generations": 4, "max_completion_length": 16, "prompts_per_device": 2, "beta": 0.0},
        {"num_generations": 14, "gradient_checkpointing": True, "gradient_accumulation_steps": 1},
        {"num_generations": 4, "gradient_accumulation_steps": 8, "max_completion_length": 3},
        {"num_generations": 4, "lora_scope": "all", "lora_target_modules": ["q_proj", "v_proj"]},
        {"num_generations": 14, "dtype": "bfloat16", "lora_dropout": 0.0},
    ],
    ids=lambda options: " ".join(f"{name}={value}" for name, value in options.items()),
)
def test_plan_of_a_grpo_step_is_what_it_takes(options, tmp_path):
    options = SETTINGS | options
    plan = planned(**options)
    del options["eval_batch_size"]
    trainer = grpo_trainer(getattr(torch, options.pop("dtype")), **options)
    found = []
    sampling = most_allocated(lambda: found.append(trainer.sampler.collect(0)), tmp_path)
    learning = most_allocated(lambda: trainer.learn(*found), tmp_path)
    groups = found[0].groups
    longest = max(max(group.summary.lengths) for group in groups)
    assert longest == options["max_completion_length"], "the plan is for completions that go on to the end"
    base = held(trainer.model, trainer.optimizer)
    features = sum(group.features.nbytes for group in groups if group.features is not None)
    # Masks are not planned: of a model this narrow, with 14 completions per prompt, they are a twentieth.
    assert plan.totals["sampling"] - base == pytest.approx(sampling, rel=0.07)
    planned_learning = max(plan.totals[phase] for phase in ("forward", "backward", "update"))
    assert planned_learning - base == pytest.approx(learning + features, rel=0.05)
    assert ("reference" in plan.phases) == (options.get("beta") != 0.0)


def sft_run(**options):
    """(model, a function that takes two steps)."""
    args = sft.SFTArgs(max_steps=2, **options)
    model = with_adapter(args)
    return model, lambda: loop.train(sft.Trainer(model, tiny.processor(), examples(), args))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_plan_of_an_sft_step_is_what_it_takes(checkpointing, tmp_path):
    options = {"per_device_batch_size": 4, "gradient_checkpointing": checkpointing}
    model, run = sft_run(gradient_accumulation_steps=2, **options)
    base = held(model)
    taken = most_allocated(run, tmp_path)
    plan = planned(SFT, **SFT_SETTINGS | options)
    pixels = 2 * 4 * 3 * 112 * 112 * 4  # of both passes: numpy's memory, which torch's record does not show
    assert plan.highest(besides="evaluation")[1] - base == pytest.approx(taken + pixels, rel=0.05)
    assert not {"sampling", "reference"} & set(plan.phases)


def test_plan_of_reference_and_evaluation(tmp_path):
    args = grpo.GRPOArgs(num_generations=14)
    model = with_adapter(args)
    batch = rollout.encode(tiny.processor(), *zip(*[(e.prompt, e.images) for e in examples(3)], strict=True))
    plan = planned(**SETTINGS | {"num_generations": 14})
    assert batch.input_ids.shape[1] == IMAGE_TOKENS + TEXT_TOKENS

    def evaluate_it():
        completions = rollout.sample(model, batch, 1, evaluate.Args.max_new_tokens, temperature=0)
        assert completions.tokens.shape[-1] == evaluate.Args.max_new_tokens

    inputs = batch.pixel_values.nbytes
    taken = most_allocated(evaluate_it, tmp_path) + inputs
    assert plan.totals["evaluation"] - held(model) == pytest.approx(taken, rel=0.05)

    completions = rollout.sample(model, batch.select([0]), 14, LENGTH, seeds=[0])
    given = replace(batch.select([0]), features=rollout.image_features(model, batch.select([0])))

    def refer():
        with torch.no_grad(), model.disable_adapter():
            rollout.per_token_logps(model, given, completions)

    before = sum(
        plan.phases["reference"][part] for part in ("gradients", "optimizer states", "image features")
    )
    taken = most_allocated(refer, tmp_path) + before + inputs // 3
    assert plan.totals["reference"] - held(model) == pytest.approx(taken, rel=0.05)


# ---- Qwen and videos


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """(processor, configuration) of a Qwen2-VL as narrow as the PaliGemma above."""
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = tiny_chat.save_processor(folder)
    text = dict(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    vision = dict(depth=4, num_heads=2, patch_size=4, spatial_merge_size=2, embed_dim=32, hidden_size=64)
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()}
    config = Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
    return qwen.load_processor(str(folder), pixels=(64 * 64, 64 * 64)), config


def films():
    return [
        replace(each, images=Video([tiny.image(4 * i + n, 64, 64) for n in range(4)]), prompt=each.question)
        for i, each in enumerate(examples())
    ]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_plan_of_qwens_step_with_videos_is_what_it_takes(method, checkpointing, chat, tmp_path):
    processor, config = chat
    options = {"per_device_batch_size": 2, "gradient_accumulation_steps": 2}
    options |= {"gradient_checkpointing": checkpointing}
    batch = rollout.encode(processor, *zip(*[(e.prompt, e.images) for e in films()[:3]], strict=True))
    image_tokens = len(batch.image_rows([0]))
    sizes = {"num_frames": 4, "max_pixels": 64 * 64, "text_tokens": batch.input_ids.shape[1] - image_tokens}
    of_plan = sizes | {"device": "cpu", "dtype": "float32", "answer_tokens": LENGTH, "eval_batch_size": 3}
    plan = memory.plan(memory.args_of(f"model/vsi_{method}.py")(**of_plan, **options), config)

    kind = {"dpo": dpo.DPOArgs, "sft": sft.SFTArgs}[method]
    args = kind(max_steps=2, **options)
    gc.collect()
    model = loop.add_adapter(shapes.random_model(config), args)
    base = held(model)
    if not checkpointing:
        inputs = sum(visual.patches.nbytes for each in batch.visuals for visual in each)
        taken = most_allocated(lambda: rollout.sample(model, batch, 1, 16, temperature=0), tmp_path) + inputs
        assert plan.totals["evaluation"] - base == pytest.approx(taken, rel=0.05)
    wrong = [lambda example: example.answer.replace("red", "blue")] if method == "dpo" else []
    trainer = {"dpo": dpo, "sft": sft}[method].Trainer(model, processor, films(), *wrong, args)
    taken = most_allocated(lambda: loop.train(trainer), tmp_path)
    assert plan.highest(besides="evaluation")[1] - base == pytest.approx(taken, rel=0.06)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("Qwen/Qwen2-VL-2B-Instruct", 2_208_985_600),
        ("Qwen/Qwen2-VL-7B-Instruct", 8_291_375_616),
        ("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976),
    ],
)
def test_published_shapes_have_as_many_weights_as_published(name, weights):
    model = shapes.random_model(shapes.PUBLISHED[name](), torch.float16, "meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == weights


# ---- the process's own memory, which knows nothing of torch


def status(name):
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def most_resident(work):
    """How far `work` raises the memory that the process has in use, by the kernel's high-water mark."""
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the mark starts again
    work()
    return status("VmHWM") - before


RESIDENT = {"num_generations": 14, "max_completion_length": 16}


def resident():
    """Prints what a step of GRPO and one of SFT take, in a process of their own."""
    tiny.IMAGE_SIZE = 112
    torch.set_num_threads(1)
    trainer = grpo_trainer(gradient_accumulation_steps=2, **RESIDENT)
    collected = trainer.sampler.collect(0)
    trainer.learn(collected)  # what is loaded on the first call stays
    taken = {"grpo": most_resident(lambda: trainer.learn(collected))}
    sft_run(per_device_batch_size=1)[1]()
    _, run = sft_run(gradient_accumulation_steps=2, gradient_checkpointing=False)
    print(json.dumps(taken | {"sft": most_resident(run)}))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone tells")
def test_plan_is_what_the_process_takes():
    """glibc keeps what is freed for itself, unless blocks this small are the kernel's."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, __file__]
    made = subprocess.run(command, check=True, timeout=300, env=environment, capture_output=True, text=True)
    taken = json.loads(made.stdout.splitlines()[-1])
    always = ("weights", "adapters", "optimizer states", "image features")
    of_sft = SFT_SETTINGS | {"per_device_batch_size": 8, "gradient_checkpointing": False}
    for name, kind, options in (("grpo", memory.Args, SETTINGS | RESIDENT), ("sft", SFT, of_sft)):
        plan = planned(kind, **options)
        phase, most = plan.highest(besides="evaluation")
        assert most - sum(plan.phases[phase][part] for part in always) == pytest.approx(taken[name], rel=0.15)


# ---- what cannot be measured here: the published shape, GPUs


def test_the_published_run_fits_16_gb():
    plan = memory.plan(memory.Args())
    adapter = 20_766_720 * 4
    for phase, parts in plan.phases.items():
        assert parts["weights"] == pytest.approx(3_032_242_416 * 2, rel=1e-4)  # norms are float32
        assert parts["adapters"] == adapter
        assert parts["optimizer states"] == (
            0 if phase == "evaluation" else pytest.approx(2 * adapter, rel=1e-4)
        )
    prompts = 16 * (256 + 80)  # sampling is at its highest on them, before any completion
    assert plan.phases["sampling"]["KV cache"] == prompts * 26 * 2 * 4 * 256 * 2
    assert plan.highest(besides="evaluation")[1] < 10e9
    assert "fits a card of 14.56 GiB" in memory.table(plan, 14.56)
    assert "does not fit a card of 9.5 GiB" in memory.table(plan, 9.5)


def test_a_gpu_keeps_dropout_masks_in_bytes():
    options = SETTINGS | {"num_generations": 4, "text_tokens": TEXT_TOKENS}
    cpu, gpu = (memory.plan(memory.Args(device=device, **options), shape()) for device in ("cpu", "cuda"))
    tokens = IMAGE_TOKENS + TEXT_TOKENS + 4 * (LENGTH - 1)
    # Of both layers' q k v, o, gate up, down; no gradient goes back through the first layer's q k v.
    inputs = 2 * (3 * 64 + 64 + 2 * 64 + 256) - 3 * 64
    assert cpu.kept_for_backward - gpu.kept_for_backward == tokens * inputs * (4 - 1)


def test_checkpointing_takes_less_and_keeps_little():
    options = SETTINGS | {"num_generations": 14, "text_tokens": TEXT_TOKENS, "device": "cuda"}
    plans = [
        memory.plan(memory.Args(gradient_checkpointing=on, **options), shape(num_hidden_layers=6))
        for on in (False, True)
    ]
    without, checkpointed = plans
    assert checkpointed.kept_for_backward < 0.4 * without.kept_for_backward
    assert checkpointed.totals["backward"] < 0.8 * without.totals["backward"]
    assert checkpointed.totals["sampling"] == without.totals["sampling"]


def test_weights_in_4_bits_take_what_bitsandbytes_makes_of_them():
    quantize = pytest.importorskip("bitsandbytes").functional.quantize_4bit
    config = shape(hidden_size=64, num_hidden_layers=1)
    options = SETTINGS | {"num_generations": 4, "dtype": "float16", "device": "cuda"}
    plans = [memory.plan(memory.Args(load_in_4bit=four, **options), config) for four in (False, True)]
    model = shapes.random_model(config, torch.float16).model.language_model
    saved = 0
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            packed, state = quantize(module.weight.data, quant_type="nf4", compress_statistics=True)
            kept = (packed, state.absmax, state.state2.absmax)
            saved += module.weight.nbytes - sum(tensor.nbytes for tensor in kept)
    without, four_bits = plans
    assert without.phases["forward"]["weights"] - four_bits.phases["forward"]["weights"] == saved
    assert four_bits.totals["forward"] == without.totals["forward"] - saved + 64 * 256 * 2


# ---- the command


@pytest.fixture
def folder(tmp_path):
    shape().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "file", sorted(RUNS.glob("**/pali_sat_*.yaml")), ids=lambda p: p.parent.name + p.stem
)
def test_takes_every_run_and_flags_over_it(file, folder, capsys):
    length = "--answer_tokens" if "sft" in file.name else "--max_completion_length"
    memory.run(["--config", str(file), "--model", str(folder), length, "5", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert ("SFT" if "sft" in file.name else "GRPO") in found["title"] and "of 5 tokens" in found["title"]
    assert ("CPU" if "embedded" in str(file.parent.name) else "GPU") in found["title"]
    assert found["step_peak"] == max(n for phase, n in found["totals"].items() if phase != "evaluation")
    assert found["totals"]["backward"] == sum(found["phases"]["backward"].values())


def test_takes_an_evaluation_and_its_flags(folder, capsys):
    memory.run(["eval_paligemma_sat.py", "--profile", "paper", "--model", str(folder), "--batch_size", "3"])
    printed = capsys.readouterr().out
    assert f"3 answers at a time of 24 tokens after {2 * IMAGE_TOKENS} of image and 80 of text" in printed
    assert "highest of all: evaluation" in printed and "of a step" not in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "nowhere"], "--model nowhere: no folder with a config.json"),
        (["--text_tokens", "0"], "--text_tokens must be greater than 0"),
        (["--text_tokens", "9000"], "prompt with completion takes 9,0"),
        (["--prompts_per_device", "0"], "--prompts_per_device must be greater than 0"),
        (["--num_generations", "1"], "--num_generations 1"),
        (["--load_in_4bit", "--device", "cpu"], "--load_in_4bit needs a CUDA device"),
    ],
)
def test_a_users_mistake_is_one_line(flags, message, folder, capsys):
    with pytest.raises(SystemExit) as caught:
        memory.run(["--model", str(folder), *flags])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


if __name__ == "__main__":
    resident()
