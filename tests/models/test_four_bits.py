"""4-bit weights by transformers' and bitsandbytes' own path: the language layers alone, near the full model.

On the CPU, where users are refused. bitsandbytes' shortcut for CPUs with AVX-512 and bfloat16 is off: GPUs
have nothing like it, and it rounds to bfloat16 and drops gradients. Rows are whole blocks of 64 weights, as
its CPU kernels need them.
"""

import copy
import math

import pytest
import tiny
import tiny_chat
import tolerance
import torch

from spatialvlm import devices
from spatialvlm.example import Example
from spatialvlm.models import loading, rollout
from spatialvlm.training import loop, sft

bitsandbytes = pytest.importorskip("bitsandbytes")

# nf4 has 16 levels for 64 weights, the largest of which is 1. In blocks of normal weights the root mean
# square of the errors is 0.092 of the weights' (a layer of 1,024 weights: within a tenth of that).
SPREAD = 0.1
KINDS = ["paligemma", "qwen2_vl", "qwen2_5_vl"]


@pytest.fixture(autouse=True)
def four_bits_on_the_cpu(monkeypatch):
    monkeypatch.setattr(devices, "takes_four_bits", lambda device: True)


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    """A model as save_pretrained leaves it; of the PaliGemmas the embedded one."""
    if request.param == "paligemma":
        return loading.EMBEDDED
    return tiny_chat.save_model(tmp_path_factory.mktemp(request.param), request.param, width=64)


def load(folder, train_adapter=False, **options):
    args = loading.ModelArgs(
        **({"profile": "embedded", "model": str(folder), "load_in_4bit": True} | options)
    )
    model, processor = loading.load(args, train_adapter, pixels=(64, 1024))
    for _, layer in converted(model):
        layer.support_avx512bf16_for_cpu = False
    return model, processor


def converted(model):
    """(name, layer) of what is in 4 bits."""
    return [each for each in model.named_modules() if isinstance(each[1], bitsandbytes.nn.Linear4bit)]


def weight(layer):
    """A layer's weights as it multiplies by them."""
    return bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)


def logps(model, processor):
    prompts = ["how many red cubes are there?", "what is left of the sphere?"]
    batch = rollout.encode(processor, prompts, [[tiny.image(0)], [tiny.image(1)]])
    tokens = torch.arange(5, 29).view(2, 3, 4)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad():
        return rollout.per_token_logps(model, batch, rollout.Completions(tokens, mask, mask.float()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_language_layers_alone_are_converted(folder, dtype):
    model, _ = load(folder, dtype=dtype)
    layers = dict(converted(model))
    linear = [name for name, each in model.named_modules() if isinstance(each, torch.nn.Linear)]
    assert set(layers) == {name for name in linear if ".language_model.layers." in name}
    assert len(layers) == 7 * model.config.get_text_config().num_hidden_layers
    assert {part for part in ("vision_tower", "projector", "visual", "merger") if part in " ".join(linear)}
    assert all(layer.compute_dtype == getattr(torch, dtype) for layer in layers.values())
    others = {p.dtype for name, p in model.named_parameters() if name.removesuffix(".weight") not in layers}
    assert others == {getattr(torch, dtype)}


def test_the_converted_model_is_near_the_full_one(folder):
    (full, processor), (model, _) = load(folder, load_in_4bit=False), load(folder)
    rounded = copy.deepcopy(full)
    for name, layer in converted(model):
        original = rounded.get_submodule(name).weight.data
        assert 0 < (weight(layer) - original).norm() < SPREAD * original.norm()
        rounded.get_submodule(name).weight.data = weight(layer)
    found, expected = logps(model, processor), logps(rounded, processor)
    width, depth = model.config.get_text_config().hidden_size, len(converted(model))
    close = tolerance.rounding(width, steps=depth)
    torch.testing.assert_close(found, expected, rtol=close, atol=close * expected.abs().max().item())
    # Each layer turns its input by SPREAD of its size, in directions of their own.
    difference = (found - logps(full, processor)).norm() / expected.norm()
    assert 0 < difference < SPREAD * math.sqrt(depth)


def test_an_adapter_learns_on_it_and_fits_the_full_model(tmp_path, capsys):
    model, processor = load(loading.EMBEDDED)
    frozen = {name: layer.weight.data.clone() for name, layer in converted(model)}
    model = loading.add_lora(model, r=4, alpha=8, dropout=0.0)
    assert "vision 0" in capsys.readouterr().out
    image = (tiny.image(0),)
    examples = [Example(id=a, images=image, question=f"{a}?", answer=a, task="word") for a in ("no", "red")]
    args = sft.SFTArgs(
        per_device_batch_size=2, max_steps=4, learning_rate=2e-2, gradient_accumulation_steps=1
    )
    rows = []
    loop.train(sft.Trainer(model, processor, examples, args), lambda row, _: rows.append(row["loss"]))
    assert rows[-1] < rows[0] / 2
    assert all(
        torch.equal(dict(converted(model))[f"base_model.model.{name}.base_layer"].weight.data, data)
        for name, data in frozen.items()
    )
    loading.save_adapter(model, tmp_path / "adapter")
    learnt = {name: p.detach() for name, p in model.named_parameters() if "lora_" in name}
    for four in (True, False):
        again, _ = load(loading.EMBEDDED, adapter=str(tmp_path / "adapter"), load_in_4bit=four)
        loaded = {name: p for name, p in again.named_parameters() if "lora_" in name}
        assert loaded.keys() == learnt.keys() and all(
            torch.equal(loaded[name], learnt[name]) for name in learnt
        )
        assert bool(converted(again)) == four
