"""DPO: trl's loss of the rollout's log-probabilities, for a PaliGemma and a Qwen with a video alike."""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import tiny
import tiny_chat
import tolerance
import torch
from torch.nn.functional import logsigmoid, pad
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from spatialvlm.errors import UserError
from spatialvlm.example import Example, Video
from spatialvlm.models import loading, rollout
from spatialvlm.models.inputs import Completions
from spatialvlm.run_folder import Run
from spatialvlm.training import dpo, loop
from spatialvlm.training.checkpoints import Checkpoints
from spatialvlm.training.loop import example_index

ROUNDING = tolerance.rounding(tolerance.TINY, steps=2)
RIGHT, WRONG = ["red", "blue cube", "green", "no"], ["blue", "red", "red cube", "yes 1"]


def examples(video, count=6):
    def images(number):
        shown = [tiny.image(10 * number + frame, 16, 12) for frame in range(4 if video else 1 + number % 2)]
        return Video(shown) if video else tuple(shown)

    question = "what is left of the" + " red cube"
    return [
        Example(str(number), images(number), question + "?" * (number % 3), RIGHT[number % 4], "colour")
        for number in range(count)
    ]


def rejected(example):
    return WRONG[RIGHT.index(example.answer)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_chat.save_model(tmp_path_factory.mktemp("model"), "qwen2_vl")


@pytest.fixture(params=["paligemma", "qwen2_vl"])
def made(request, folder):
    """(a function that makes (model, processor) with an adapter, examples)."""
    video = request.param == "qwen2_vl"

    def make(moved=0.0):
        model, processor = tiny_chat.load(folder) if video else tiny.paligemma()
        torch.manual_seed(0)
        model = loading.add_lora(model, r=4, alpha=8, dropout=0.0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0, moved)
        return model, processor

    return make, examples(video)


def arguments(**options):
    small = {"per_device_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 2}
    small |= {"learning_rate": 1e-3, "gradient_checkpointing": False}
    return dpo.DPOArgs(**(small | options))


def train(model, data, folder=None, resume=None, **options):
    saving = Checkpoints(Run(folder, {}), {}, every=1, keep=9) if folder else None
    if resume is not None:
        saving.restore(resume)
    history = []

    def log(row, _):
        history.append({name: value for name, value in row.items() if name != "seconds"})
        if saving:
            saving.run.log(**row)

    trainer = dpo.Trainer(*model, data, rejected, arguments(**options))
    return history, loop.train(trainer, log, saving, resume)


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.parameters])


def logps_one_row_an_answer(model, processor, data):
    """(B, 2): the right and the wrong answer, each in a row of its own, tokenized here."""
    batch = rollout.encode(processor, [e.prompt for e in data], [e.images for e in data])
    found = []
    for texts in ([e.answer for e in data], [rejected(e) for e in data]):
        eos = processor.tokenizer.eos_token
        ids = [processor.tokenizer(text + eos, add_special_tokens=False)["input_ids"] for text in texts]
        length = max(map(len, ids))
        tokens = torch.tensor([[row + [0] * (length - len(row))] for row in ids])
        mask = torch.tensor([[[True] * len(row) + [False] * (length - len(row))] for row in ids])
        answers = Completions(tokens, mask, torch.zeros(tokens.shape))
        with torch.no_grad():
            found.append(rollout.per_token_logps_plain(model, batch, answers).sum((1, 2)))
    return torch.stack(found, 1)


def first_step(data):
    return [data[example_index(draw, len(data), 0)] for draw in range(4)]


def test_the_loss_is_the_formula(made):
    make, data = made
    model, processor = make(moved=0.2)
    model.eval()
    now = logps_one_row_an_answer(model, processor, first_step(data))
    with model.disable_adapter():
        before = logps_one_row_an_answer(model, processor, first_step(data))
    gains = now - before
    margins = 0.3 * (gains[:, 0] - gains[:, 1])
    assert gains.abs().min() > 1e-3, "the adapter does something"
    history, _ = train((model, processor), data, beta=0.3, max_steps=1)
    assert history[0]["loss"] == pytest.approx(-logsigmoid(margins).mean().item(), abs=ROUNDING)
    assert history[0]["margin"] == pytest.approx(margins.mean().item(), abs=10 * ROUNDING)
    assert history[0]["preferred"] == (margins > 0).float().mean().item()


def test_it_starts_at_the_reference_and_comes_to_prefer_the_right_answers(made):
    make, data = made
    options = {"max_steps": 12, "learning_rate": 0.02, "lr_scheduler": "constant"}
    history, trainer = train(make(), data, **options)
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-6) and history[0]["margin"] == 0
    assert history[-1]["preferred"] == 1 and history[-1]["loss"] < 0.35, history
    assert list(trainer.model.peft_config) == ["default"] and not trainer.model.training


def test_micro_batches_change_nothing(made):
    make, data = made
    runs = [
        train(make(), data, per_device_batch_size=size, gradient_accumulation_steps=4 // size)
        for size in (1, 4)
    ]
    torch.testing.assert_close(
        weights(runs[0][1]),
        weights(runs[1][1]),
        rtol=0,
        atol=tolerance.of_weights(1e-3, tolerance.TINY, steps=2),
    )
    for one, other in zip(runs[0][0], runs[1][0], strict=True):
        # margins are sums over tokens, of the order of 10
        assert one == pytest.approx(other, abs=10 * ROUNDING)


def test_a_resumed_run_is_one_never_stopped(made, tmp_path):
    make, data = made
    whole, trainer = train(make(), data, tmp_path / "whole", max_steps=3, lora_dropout=0.05)
    again, second = train(
        make(), data, tmp_path / "again", tmp_path / "whole/checkpoint-1", max_steps=3, lora_dropout=0.05
    )
    assert again == whole[1:] and torch.equal(weights(trainer), weights(second))


def trl_loss(logps, ref_logps, mask, beta, loss_type):
    """(trl's own `_compute_loss`, its metrics) of (B, 2, T) log-probabilities, right answers first."""

    def rows(values):
        return values.transpose(0, 1).flatten(0, 1)

    gather = {"gather": lambda value: value, "gather_for_metrics": lambda value: value}
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(device=logps.device, **gather),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[loss_type],
        loss_weights=[1.0],
        use_weighting=False,
        beta=beta,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    unused = torch.zeros_like(rows(logps))
    outputs = SimpleNamespace(
        log_probs=rows(logps), entropy=unused, mean_logits=unused, is_top1=unused.bool()
    )
    of_answers = pad(rows(mask), (1, 0)).long()  # a prompt's token first
    inputs = {
        "input_ids": of_answers,
        "attention_mask": of_answers,
        "completion_mask": of_answers,
        "ref_chosen_logps": ref_logps[:, 0].sum(-1),
        "ref_rejected_logps": ref_logps[:, 1].sum(-1),
    }
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, return_outputs=False)
    return loss, trainer._metrics["train"]


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "hinge"])
def test_loss_and_metrics_equal_trl(made, loss_type):
    make, data = made
    model, processor = make(moved=0.2)
    trainer = dpo.Trainer(
        model, processor, data, rejected, arguments(beta=0.3, loss_type=loss_type, learning_rate=1e-30)
    )
    mask = torch.arange(5) < torch.tensor([[5, 1], [2, 4], [3, 3], [1, 2]])[..., None]
    logps, ref_logps = (-3 * torch.rand(mask.shape) * mask for _ in range(2))
    logps.requires_grad_()
    sums = logps.sum(-1), ref_logps.sum(-1), mask.sum(-1)
    found = dpo.loss_from_logps(*sums, 0.3, loss_type).mean()
    expected, _ = trl_loss(logps, ref_logps, mask, 0.3, loss_type)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, logps)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)

    row = trainer.take_step()  # the whole step: what the trainer reports of its own log-probabilities
    batch, answers = trainer.encode(first_step(data))
    with torch.no_grad():
        logps = rollout.per_token_logps(model, batch, answers)
        with model.disable_adapter():
            ref_logps = rollout.per_token_logps(model, batch, answers)
    expected, metrics = trl_loss(logps, ref_logps, answers.mask, 0.3, loss_type)
    assert row["loss"] == pytest.approx(expected.item(), rel=10 * ROUNDING)
    assert row["margin"] == pytest.approx(metrics["rewards/margins"][0], abs=10 * ROUNDING)
    assert row["preferred"] == metrics["rewards/accuracies"][0]


def test_unknown_loss_type():
    with pytest.raises(ValueError, match="must be sigmoid"):
        dpo.loss_from_logps(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2), 0.1, "kto")


def test_trls_own_inputs_do_not_exist_for_paligemma():
    """Why the log-probabilities are the rollout's; where this no longer raises, look at trl's again."""
    row = {"images": [tiny.image(0)], "prompt": "red ?", "chosen": "yes", "rejected": "no"}
    with pytest.raises(ValueError, match="images"):
        DataCollatorForVisionPreference(tiny.processor()).torch_call([row])


def test_invalid_arguments(made):
    make, data = made
    with pytest.raises(UserError, match="--beta must be greater than 0, not 0"):
        train(make(), data, beta=0)
    with pytest.raises(UserError, match="no examples"):
        train(make(), [])
