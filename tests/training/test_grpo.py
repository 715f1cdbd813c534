"""The loss is trl's; a step computes the same however it is split; training works, and stops in time."""

import math
import os
import subprocess
import sys
import types
from collections import defaultdict

import pytest
import tiny
import tolerance
import torch
from accelerate import PartialState, debug_launcher
from trl import GRPOTrainer

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.models import loading, precision, rollout
from spatialvlm.training import grpo, loop

COLOURS = ["red", "blue", "green"]
ROUNDING = tolerance.rounding(tolerance.TINY, steps=2)
CLOSE = {"rel": ROUNDING, "abs": ROUNDING}  # of metrics, which are of the order of 1


def examples(count=6):
    """Questions of different lengths with one or two random images; the answer is a colour."""
    return [
        Example(
            id=str(i),
            images=tuple(tiny.image(10 * i + n) for n in range(1 + i % 2)),
            question="what is left of the" + " red cube" * (i % 3 + 1) + "?",
            answer=COLOURS[i % 3],
            task="colour",
        )
        for i in range(count)
    ]


def by_length(completion, example):
    """Differs within nearly every group of random words."""
    return len(completion) / 10 + completion.count("e")


def not_for_red(completion, example):
    """Teaches nothing about a third of the examples."""
    return 0.0 if example.answer == "red" else by_length(completion, example)


def with_adapter(seed=0, **options):
    """(model, processor) with a fresh adapter, language side, no dropout."""
    model, processor = tiny.paligemma()
    torch.manual_seed(seed)
    return loading.add_lora(model, **({"r": 4, "alpha": 8, "dropout": 0.0} | options)), processor


def arguments(**options):
    small = {"num_generations": 3, "prompts_per_device": 2, "gradient_accumulation_steps": 2, "max_steps": 2}
    return grpo.GRPOArgs(**(small | {"max_completion_length": 4, "learning_rate": 1e-3} | options))


def run(reward=by_length, data=None, model=None, **options):
    """(metrics of every step, trainer)."""
    model, processor = model or with_adapter()
    history = []
    trainer = grpo.Trainer(model, processor, data or examples(), reward, arguments(**options))
    return history, loop.train(trainer, lambda row, _: history.append(row))


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.parameters])


# ---- the mathematics


def trl_loss(logps, ref_logps, advantages, mask, beta, loss_type, max_completion_length):
    """trl's own `_compute_loss` on given log-probabilities, all of a step in one batch."""
    trainer = types.SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logps, torch.zeros_like(logps), None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=beta,
        loss_type=loss_type,
        epsilon_low=0.2,
        epsilon_high=0.2,
        use_vllm=False,
        args=types.SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        model=types.SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=max_completion_length,
        accelerator=types.SimpleNamespace(
            num_processes=1, gather=lambda value: value, reduce=lambda value, reduction: value
        ),
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
    )
    inputs = {
        "prompt_ids": torch.zeros(len(logps), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(logps), 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(logps).long(),
        "completion_mask": mask.long(),
        "advantages": advantages,
        "ref_per_token_logps": ref_logps,
        "num_items_in_batch": mask.sum(),
    }
    return GRPOTrainer._compute_loss(trainer, None, inputs)


@pytest.fixture
def scored():
    generator = torch.Generator().manual_seed(0)
    logps, ref_logps = (-torch.rand(6, 5, generator=generator) * 3 for _ in range(2))
    mask = torch.arange(5) < torch.tensor([5, 1, 3, 2, 4, 5])[:, None]
    advantages = torch.randn(6, generator=generator)
    return logps.requires_grad_(), ref_logps, advantages, mask


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
def test_loss_equals_trl(scored, loss_type, beta):
    logps, ref_logps, advantages, mask = scored
    found = grpo.loss_from_logps(logps, ref_logps, advantages, mask, beta, loss_type, 7)
    expected = trl_loss(logps, ref_logps, advantages, mask, beta, loss_type, 7)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, logps)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().sum() > 0 and not gradients[0][~mask].any()


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
def test_parts_of_a_step_add_up(scored, loss_type):
    *tensors, mask = scored
    whole = grpo.loss_from_logps(*tensors, mask, 0.04, loss_type, 7)
    sizes = {"num_completions": 6, "num_tokens": int(mask.sum())}
    parts = [
        grpo.loss_from_logps(*(t[rows] for t in tensors), mask[rows], 0.04, loss_type, 7, **sizes)
        for rows in (slice(0, 1), slice(1, 6))
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_unknown_loss_type(scored):
    with pytest.raises(ValueError, match="must be grpo"):
        grpo.loss_from_logps(*scored, loss_type="bnpo")


def test_advantages():
    found = grpo.group_advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]]))
    assert found[0].tolist() == pytest.approx(
        [0.5 / (math.sqrt(1 / 3) + 1e-4) * sign for sign in (1, -1, -1, 1)]
    )
    assert not found[1].any()


def test_every_epoch_draws_every_example_once():
    for epoch in range(3):
        drawn = [loop.example_index(draw, 10, seed=5) for draw in range(10 * epoch, 10 * epoch + 10)]
        assert sorted(drawn) == list(range(10))
    first, second, other = (
        [loop.example_index(d + s, 10, seed=n) for d in range(10)] for s, n in ((0, 5), (10, 5), (0, 6))
    )
    assert first != second and first != other


# ---- a step is a step, however it is split


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
def test_micro_batches_change_nothing(loss_type):
    splits = [
        run(loss_type=loss_type, prompts_per_device=size, gradient_accumulation_steps=4 // size)
        for size in (1, 2, 4)
    ]
    for history, trainer in splits[1:]:
        for found, expected in zip(history, splits[0][0], strict=True):
            expected = {name: value for name, value in expected.items() if name != "seconds"}
            assert {name: found[name] for name in expected} == pytest.approx(expected, **CLOSE)
        torch.testing.assert_close(
            weights(trainer),
            weights(splits[0][1]),
            rtol=0,
            atol=tolerance.of_weights(1e-3, tolerance.TINY, steps=2),
        )


def train_in_a_process(folder, count):
    rank = PartialState(cpu=True).process_index
    model = with_adapter(seed=rank)  # adapters start out different: the first process's must win
    sizes = {"prompts_per_device": 1, "gradient_accumulation_steps": 4 // count}
    history, trainer = run(not_for_red, model=model, **sizes)
    torch.save((history, weights(trainer)), f"{folder}/{count}-{rank}")
    if count == 2:
        torch.save(train_in_half(sizes), f"{folder}/half-{rank}")


def train_in_half(sizes):
    """(groups, norm and scale of each step, weights) in float16; process 1 learns nothing in its first."""
    second = {str(loop.example_index(number, 6, seed=0)) for number in (1, 3)}  # what it sees in step 1
    model, processor = tiny.paligemma()
    torch.manual_seed(0)
    precision.float32_stream(model.to(torch.float16))
    model = loading.add_lora(model, r=4, dropout=0.0)

    def reward(completion, example):
        return 0.0 if example.id in second else by_length(completion, example)

    args = arguments(max_resamples=0, max_steps=4, **sizes)
    trainer = grpo.Trainer(model, processor, examples(), reward, args)
    steps = []
    for _ in range(args.max_steps):
        norm = trainer.take_step()["grad_norm"]
        steps.append((len(trainer.collected.groups), norm, trainer.scaler.get_scale()))
    return steps, weights(trainer)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The folder with what `train_in_a_process` leaves in each of two."""
    folder = tmp_path_factory.mktemp("two")
    # A fresh process starts them: this one has threads, and must not fork.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, __file__, str(folder)], check=True, timeout=300, env=environment)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:after 0 further rounds")
def test_a_process_without_groups_updates_as_the_others_do_in_float16(two_processes):
    (steps, after), (others, same) = (torch.load(two_processes / f"half-{rank}") for rank in (0, 1))
    assert steps[0][0] == 2 and others[0][0] == 0
    assert [step[1:] for step in steps] == [step[1:] for step in others]  # norm and scale
    assert torch.equal(after, same)
    norms = [norm for _, norm, _ in steps]
    assert any(norms) and all(math.isfinite(norm) for norm in norms)


@pytest.mark.slow
def test_number_of_processes_changes_nothing(two_processes, tmp_path):
    train_in_a_process(tmp_path, 1)
    history, expected = torch.load(tmp_path / "1-0")
    (first, after), (other, same) = (torch.load(two_processes / f"2-{rank}") for rank in (0, 1))
    assert not other, "only the main process logs"
    assert torch.equal(after, same)
    torch.testing.assert_close(
        after, expected, rtol=0, atol=tolerance.of_weights(1e-3, tolerance.TINY, steps=2)
    )
    assert any(metrics["dropped"] for metrics in history), "some groups should have been replaced"
    for found, wanted in zip(first, history, strict=True):
        wanted = {name: value for name, value in wanted.items() if name != "seconds"}
        assert {name: found[name] for name in wanted} == pytest.approx(wanted, **CLOSE)


def test_same_seed_same_run_with_dropout_and_vision_trained():
    runs = []
    for seed in (1, 1, 2):
        model = with_adapter(scope="all", dropout=0.3, target_modules=["q_proj", "v_proj"])
        torch.seed()  # what was random before does not matter
        runs.append(run(model=model, seed=seed))
    (first, one), (_, two), (_, three) = runs
    assert torch.equal(weights(one), weights(two)) and not torch.equal(weights(one), weights(three))
    assert all(math.isfinite(metrics["kl"]) for metrics in first)
    vision = [name for name, p in one.model.named_parameters() if p.requires_grad and "vision_tower" in name]
    assert any(one.model.get_parameter(name).abs().sum() > 0 for name in vision if "lora_B" in name)


def test_the_first_step_has_no_kl_and_the_reference_stays():
    model, processor = with_adapter()
    batch = rollout.encode(processor, ["how many?"], [[tiny.image(0)]])
    completions = rollout.sample(model, batch, 2, 4, seeds=[0])
    history, _ = run(model=(model, processor), max_steps=3)
    assert history[0]["kl"] == pytest.approx(0, abs=1e-6) and history[2]["kl"] > 1e-6
    with torch.no_grad(), model.disable_adapter():
        found = rollout.per_token_logps(model, batch, completions)
    torch.testing.assert_close(found, completions.logps, atol=ROUNDING, rtol=0)
    assert "kl" not in run(beta=0.0)[0][0]


# ---- training


@pytest.mark.filterwarnings(
    "ignore:after 4 further rounds"
)  # once all is right, nothing is left to learn from
def test_reward_rises():
    def is_red(completion, example):
        return float(completion.split()[:1] == ["red"])

    history, trainer = run(
        is_red,
        max_steps=25,
        num_generations=8,
        prompts_per_device=4,
        gradient_accumulation_steps=1,
        learning_rate=0.03,
        max_completion_length=2,
        lr_scheduler="constant",
        max_resamples=4,
    )
    rewards = [metrics["reward"] for metrics in history]
    assert sum(rewards[:3]) / 3 < 0.2 and sum(rewards[-3:]) / 3 > 0.8, rewards
    assert history[-1]["step"] == 25 and trainer.steps == 25


def test_dynamic_sampling_replaces_what_teaches_nothing():
    history, trainer = run(not_for_red, max_steps=3)
    assert trainer.drawn > 3 * 4
    assert any(metrics["informative"] < 1 for metrics in history)
    for metrics in history:
        assert metrics["dropped"] == pytest.approx(1 - metrics["informative"])
    history, trainer = run(not_for_red, max_steps=3, dynamic_sampling=False)
    assert trainer.drawn == 3 * 4 and not any(metrics["dropped"] for metrics in history)
    assert any(metrics["informative"] < 1 for metrics in history)


def test_constant_reward_ends_at_the_cap_with_one_warning():
    with pytest.warns(UserWarning, match="after 3 further rounds 0 of 4 groups") as caught:
        history, trainer = run(lambda completion, example: 1.0, max_resamples=3)
    assert len([w for w in caught if "further rounds" in str(w.message)]) == 1
    assert trainer.drawn == 2 * 4 * (1 + 3)
    assert [metrics["informative"] for metrics in history] == [0, 0]
    torch.testing.assert_close(
        weights(trainer), weights(grpo.Trainer(*with_adapter(), examples(), by_length, arguments()))
    )


def test_float16_weights_train_with_float32_adapters_and_a_loss_scale():
    runs = {}
    for dtype in (torch.float16, torch.float32):
        model, processor = tiny.paligemma()
        torch.manual_seed(0)
        precision.float32_stream(model.to(dtype))
        model = loading.add_lora(model, r=4, dropout=0.0)
        runs[dtype] = run(model=(model, processor), max_steps=3)
    (half, trainer), (full, _) = runs.values()
    assert {parameter.dtype for parameter in trainer.parameters} == {torch.float32}
    assert trainer.scaler.get_scale() == precision.LOSS_SCALE
    assert [row["grad_norm"] for row in half] == pytest.approx([row["grad_norm"] for row in full], rel=0.05)


def test_sampling_and_reference_continue_in_halves_where_memory_runs_out(capsys):
    """Two prompts fit, which a pass with gradients has; the others begin with four."""
    history, trainer = run(beta=0.1)
    model, processor = with_adapter()
    too_large = set()

    def full(module, arguments, inputs):
        if len(inputs["inputs_embeds"]) > 2:
            too_large.add(inputs["use_cache"])  # sampling's prompts have it, the reference's do not
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.get_base_model().model.language_model.register_forward_pre_hook(full, with_kwargs=True)
    halved, other = run(beta=0.1, model=(model, processor))
    for found, expected in zip(halved, history, strict=True):
        expected = {name: value for name, value in expected.items() if name != "seconds"}
        assert {name: found[name] for name in expected} == pytest.approx(expected, **CLOSE)
    atol = tolerance.of_weights(1e-3, tolerance.TINY, steps=2)
    torch.testing.assert_close(weights(other), weights(trainer), rtol=0, atol=atol)
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "out of memory" in line]
    assert said.endswith("--sampling_batch_size 6 avoids it")


def test_fewer_examples_than_a_step_has_prompts():
    history, _ = run(data=examples(1), max_steps=3)
    assert history[-1]["epoch"] >= 12


# ---- what goes wrong


def test_a_gradient_that_is_not_finite_stops():
    with pytest.raises(UserError, match="the loss is not finite at step 1.*--learning_rate"):
        run(lambda completion, answer: 1e38 * len(completion))


def test_damaged_weights_stop():
    model, processor = with_adapter()
    with torch.no_grad():
        model.get_base_model().model.language_model.norm.weight.fill_(math.nan)
    with pytest.raises(UserError, match="not finite"):
        run(model=(model, processor))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_generations": 1}, "--num_generations 1: a group needs at least 2"),
        ({"max_steps": 0}, "--max_steps must be greater than 0, not 0"),
        ({"temperature": 0.0}, "--temperature must be greater than 0, not 0.0"),
        ({"beta": -1.0}, "--beta must be at least 0, not -1.0"),
        ({"learning_rate": math.nan}, "--learning_rate must be greater than 0, not nan"),
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(UserError, match=message):
        run(**options)


def test_no_examples_and_no_adapter():
    with pytest.raises(UserError, match="no examples"):
        grpo.Trainer(*with_adapter(), [], by_length, arguments())
    with pytest.raises(ValueError, match="add_adapter"):
        run(model=tiny.paligemma())


if __name__ == "__main__":
    debug_launcher(train_in_a_process, (sys.argv[1], 2), num_processes=2)
