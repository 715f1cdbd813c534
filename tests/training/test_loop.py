"""What a step does beside its loss: dropout, clipping, order, metrics; each test catches one fault."""

import pytest
import test_sft
import torch
from peft.tuners.lora import LoraLayer
from test_grpo import arguments, by_length, examples, not_for_red, run, with_adapter

from spatialvlm.models import rollout
from spatialvlm.run_folder import Run
from spatialvlm.training import checkpoints, grpo, loop, sft
from spatialvlm.training.checkpoints import Checkpoints

STILL = {"learning_rate": 1e-30, "lr_scheduler": "constant"}  # weights stay as they are


def moved(dropout=0.0):
    """(model, processor) with an adapter that changes what the model computes."""
    model, processor = with_adapter(dropout=dropout)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    return model, processor


def sft_losses(dropout, **options):
    settings = {"per_device_batch_size": 1, "gradient_accumulation_steps": 1} | STILL | options
    trainer = sft.Trainer(*moved(dropout), examples(1), test_sft.arguments(**settings))
    history = []
    loop.train(trainer, lambda row, _: history.append(row["loss"]))
    return history


# ---- GRPO's numbers


def test_policy_and_reference_are_scored_at_the_sampling_temperature():
    """A new adapter changes nothing, so any KL at the first step would come from another temperature."""
    history, _ = run(temperature=0.7, max_steps=1)
    assert history[0]["kl"] == pytest.approx(0, abs=1e-6)


def test_reward_is_of_everything_sampled():
    rewards = []

    def reward(completion, example):
        rewards.append(not_for_red(completion, example))
        return rewards[-1]

    trainer = grpo.Trainer(*with_adapter(), examples(), reward, arguments())
    dropped = 0
    for _ in range(3):
        rewards.clear()
        row = trainer.take_step()
        assert row["reward"] == pytest.approx(sum(rewards) / len(rewards), rel=1e-6)
        dropped += row["reward_kept"] > row["reward"] and row["tries"] > 1
    assert dropped, "no step had a group to drop"


def test_kl_is_a_mean_over_tokens():
    trainer = grpo.Trainer(*moved(), examples(), by_length, arguments(**STILL))
    found = trainer.take_step()["kl"]
    total = tokens = 0
    for group in trainer.collected.groups:
        batch, completions = trainer.sampler.micro_batch([group])
        with torch.no_grad():
            logps = rollout.per_token_logps(trainer.model, batch, completions)
            with trainer.model.disable_adapter():
                difference = rollout.per_token_logps(trainer.model, batch, completions) - logps
        kl = difference.exp() - difference - 1
        total, tokens = total + kl[completions.mask].sum().item(), tokens + int(completions.mask.sum())
    assert tokens > 20 and found == pytest.approx(total / tokens, rel=1e-4) and found > 1e-4


def test_a_prompt_is_sampled_with_another_seed_in_every_epoch(monkeypatch):
    seeds, sample = [], rollout.sample

    def recorded(*args, **options):
        seeds.extend(options["seeds"])
        return sample(*args, **options)

    monkeypatch.setattr(rollout, "sample", recorded)
    run(data=examples(1), max_steps=2, dynamic_sampling=False)
    assert len(seeds) == len(set(seeds)) == 8


# ---- dropout and the update


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_dropout_is_on_while_learning(method):
    def loss(dropout):
        if method == "sft":
            return sft_losses(dropout, max_steps=1)[0]
        return run(model=moved(dropout), max_steps=1, beta=1.0, **STILL)[0][0]["loss"]

    assert abs(loss(0.0) - loss(0.5)) > 1e-3


def test_every_step_has_a_dropout_of_its_own():
    first, second = sft_losses(0.5, max_steps=2)
    assert abs(first - second) > 1e-3
    first, second = sft_losses(0.0, max_steps=2)
    assert first == second


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_gradients_are_clipped(method):
    """SGD moves the weights by rate times gradient, whose norm is the maximum after clipping."""
    if method == "grpo":
        trainer = grpo.Trainer(*with_adapter(), examples(), by_length, arguments(max_grad_norm=1e-3))
    else:
        trainer = sft.Trainer(*with_adapter(), examples(), test_sft.arguments(max_grad_norm=1e-3))
    trainer.optimizer = torch.optim.SGD(trainer.parameters, lr=2.0)
    before = torch.cat([parameter.detach().flatten() for parameter in trainer.parameters])
    assert trainer.take_step()["grad_norm"] > 0.1
    after = torch.cat([parameter.detach().flatten() for parameter in trainer.parameters])
    assert (after - before).norm().item() == pytest.approx(2e-3, rel=1e-2)


def test_the_adapter_has_the_scale_and_dropout_asked_for():
    model, _ = test_sft.tiny.paligemma()
    args = test_sft.arguments(lora_r=4, lora_alpha=12, lora_dropout=0.3)
    layers = [each for each in loop.add_adapter(model, args).modules() if isinstance(each, LoraLayer)]
    assert layers and all(layer.scaling["default"] == 12 / 4 for layer in layers)
    assert all(layer.lora_dropout["default"].p == 0.3 for layer in layers)


# ---- checkpoints


@pytest.mark.parametrize("steps", [(9, 10), (50, 100)])
def test_the_newest_checkpoint_is_the_one_with_the_largest_number(steps, tmp_path):
    saving = Checkpoints(Run(tmp_path, {}), {}, keep=1)
    for step in steps:
        saving.save(step, lambda folder: (folder / "weights").write_text("1"))
    assert saving.newest(tmp_path).name == f"checkpoint-{steps[-1]}"
    assert [path.name for path in checkpoints.newest_first(tmp_path)] == [f"checkpoint-{steps[-1]}"]
