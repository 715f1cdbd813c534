"""Training in float16: it learns with values beyond float16's range, and names the layer that leaves it."""

import overflowing
import pytest
import tiny
import tiny_chat
import torch
from test_grpo import by_length, examples

from spatialvlm.errors import UserError
from spatialvlm.models import loading, precision, rollout
from spatialvlm.training import grpo, loop, sft

DOWN = "model.language_model.layers.1.mlp.down_proj"


def make_trainer(method, scaled=True, dtype=torch.float16, prepared=True, **options):
    """A trainer of a random PaliGemma with a float32 adapter on all language layers."""
    model, processor = tiny.paligemma()
    if scaled:
        overflowing.paligemma(model, stream=2.0**15, products=2.0**15, gated=2.0**12)
    if dtype == torch.float16:
        overflowing.half(model)
    if prepared:
        precision.float32_stream(model)
    options = dict(lora_dropout=0.0, learning_rate=1e-2, gradient_accumulation_steps=1) | options
    if method == "sft":
        args = sft.SFTArgs(per_device_batch_size=4, **options)
        return sft.Trainer(loop.add_adapter(model, args), processor, examples(4), args)
    args = grpo.GRPOArgs(prompts_per_device=4, max_completion_length=4, dynamic_sampling=False, **options)
    return grpo.Trainer(loop.add_adapter(model, args), processor, examples(4), by_length, args)


# ---- values beyond the range


def test_plain_float16_cannot_train_on_these_values():
    with pytest.raises(UserError, match="not finite"):
        make_trainer("sft", prepared=False).take_step()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_sft_learns_with_values_beyond_the_range_what_it_learns_in_float32(checkpointing):
    """Every step takes the same four examples."""
    trainer = make_trainer("sft", gradient_checkpointing=checkpointing)
    full = make_trainer("sft", dtype=torch.float32)
    losses, wanted = ([each.take_step() for _ in range(4)] for each in (trainer, full))
    assert trainer.scaler.get_scale() == precision.LOSS_SCALE
    assert losses[0]["loss"] == pytest.approx(wanted[0]["loss"], rel=1e-3)
    assert losses[0]["grad_norm"] == pytest.approx(wanted[0]["grad_norm"], rel=0.01)
    assert losses[3]["loss"] == pytest.approx(wanted[3]["loss"], rel=0.01)
    assert losses[3]["loss"] < losses[2]["loss"] < losses[1]["loss"] < losses[0]["loss"]


def test_grpo_learns_with_values_beyond_the_range():
    """The weighted log-probabilities of given completions, which its loss raises, rise."""
    trainer = make_trainer("grpo")
    collected = trainer.sampler.collect(0)
    batch, completions = trainer.sampler.micro_batch(collected.groups)
    advantages = grpo.group_advantages(torch.tensor([group.rewards for group in collected.groups]))

    def objective():
        with torch.no_grad():
            logps = rollout.per_token_logps(trainer.model, batch, completions)
        return (advantages * logps.sum(-1) / completions.mask.sum(-1)).mean().item()

    reached = [objective()]
    for _ in range(3):
        assert trainer.learn(collected)["grad_norm"] > 0
        reached.append(objective())
    assert reached == sorted(set(reached)) and trainer.scaler.get_scale() == precision.LOSS_SCALE


VISION_LAYERS = {
    "paligemma": ["out_proj", "fc1", "fc2"],
    "qwen2_vl": ["qkv", "proj", "fc1", "fc2"],
    "qwen2_5_vl": ["qkv", "proj"],
}


@pytest.mark.parametrize("family", VISION_LAYERS)
def test_every_family_learns_with_adapters_in_both_towers_what_it_learns_in_float32(family, tmp_path):
    if family != "paligemma":
        tiny_chat.save_model(tmp_path, family)
    args = sft.SFTArgs(
        per_device_batch_size=4,
        gradient_accumulation_steps=1,
        learning_rate=1e-3,
        lora_dropout=0.0,
        lora_scope="all",
        lora_target_modules=[*loading.LORA_MODULES, *VISION_LAYERS[family]],
    )
    losses = []
    for dtype in (torch.float32, torch.float16):
        model, processor = tiny.paligemma() if family == "paligemma" else tiny_chat.load(tmp_path)
        overflowing.half(model)
        if dtype == torch.float32:
            model.float()
        precision.float32_stream(model)
        trainer = sft.Trainer(loop.add_adapter(model, args), processor, examples(4), args)
        losses.append([trainer.take_step()["loss"] for _ in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=0.01) and losses[1][2] < losses[1][1] < losses[1][0]


# ---- values that leave the range all the same


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_the_layer_that_left_the_range_is_named(method):
    trainer = make_trainer(method, scaled=False)
    trainer.take_step()
    before = [parameter.detach().clone() for parameter in trainer.parameters]
    layer = trainer.model.get_base_model().get_submodule(DOWN)
    torch.nn.init.normal_(layer.base_layer.weight, 0, 3e4)
    with pytest.raises(UserError, match=rf"not finite.* \({DOWN} gave (inf|nan)\): .*--dtype float32"):
        trainer.take_step()
    assert all(map(torch.equal, before, trainer.parameters))


@pytest.mark.parametrize("layer", [f"{DOWN}", "model.language_model.layers.0"])
def test_the_layer_whose_gradient_left_the_range_is_named(layer):
    trainer = make_trainer("sft", scaled=False)

    def explode(module, inputs, output):
        output.register_hook(lambda gradient: gradient * torch.inf)

    trainer.model.get_base_model().get_submodule(layer).register_forward_hook(explode)
    found = (
        rf"the gradient is not finite at step 1; .* \(the gradient at {layer} gave (inf|nan)\): use a lower"
    )
    with pytest.raises(UserError, match=found):
        trainer.take_step()
