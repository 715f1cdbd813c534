"""DPO: trl's loss of the rollout's log-probabilities, for a PaliGemma and a Qwen with a video alike."""

import math

import pytest
import tiny
import tiny_chat
import tolerance
import torch
from torch.nn.functional import logsigmoid
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


def test_stopped_and_gone_on_with_is_never_stopped(made, tmp_path):
    make, data = made
    whole, trainer = train(make(), data, tmp_path / "whole", max_steps=3, lora_dropout=0.05)
    again, second = train(
        make(), data, tmp_path / "again", tmp_path / "whole/checkpoint-1", max_steps=3, lora_dropout=0.05
    )
    assert again == whole[1:] and torch.equal(weights(trainer), weights(second))


def test_other_losses_are_trls_too(made):
    make, data = made
    losses = {
        name: train(make(moved=0.2), data, max_steps=1, loss_type=name)[0][0]["loss"]
        for name in ("sigmoid", "ipo", "hinge")
    }
    assert len(set(losses.values())) == 3


def test_trls_own_inputs_cannot_be_had_for_paligemma():
    """Why the log-probabilities are the rollout's; where this no longer raises, look at trl's again."""
    row = {"images": [tiny.image(0)], "prompt": "red ?", "chosen": "yes", "rejected": "no"}
    with pytest.raises(ValueError, match="images"):
        DataCollatorForVisionPreference(tiny.processor()).torch_call([row])


def test_what_makes_no_sense_is_refused(made):
    make, data = made
    with pytest.raises(UserError, match="--beta must be greater than 0, not 0"):
        train(make(), data, beta=0)
    with pytest.raises(UserError, match="no examples"):
        train(make(), [])
