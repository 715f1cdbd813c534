"""The loss is of the answers alone; a step is a step however it is split; training learns, stops, goes on."""

import logging
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import tiny_chat
import tolerance
import torch
from accelerate import PartialState, debug_launcher
from transformers.utils.logging import get_logger

from spatialvlm.errors import UserError
from spatialvlm.example import Example, Video
from spatialvlm.models import loading, precision, qwen, rollout
from spatialvlm.run_folder import Run
from spatialvlm.training import loop, sft
from spatialvlm.training.checkpoints import Checkpoints
from spatialvlm.training.loop import example_index

ROUNDING = tolerance.rounding(tolerance.TINY, steps=2)
ANSWERS = ["red", "blue cube", "green spheres behind", "no"]


def examples(count=6):
    """Questions and answers of different lengths with one or two random images."""
    return [
        Example(
            id=str(i),
            images=tuple(tiny.image(10 * i + n) for n in range(1 + i % 2)),
            question="what is left of the" + " red cube" * (i % 3 + 1) + "?",
            answer=ANSWERS[i % 4],
            task="colour",
        )
        for i in range(count)
    ]


def with_adapter(seed=0, **options):
    """(model, processor) with a fresh adapter, language side, no dropout."""
    model, processor = tiny.paligemma()
    torch.manual_seed(seed)
    return loading.add_lora(model, **({"r": 4, "alpha": 8, "dropout": 0.0} | options)), processor


def arguments(**options):
    small = {"per_device_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 2}
    return sft.SFTArgs(**(small | {"learning_rate": 1e-3} | options))


def train(data=None, model=None, folder=None, resume=None, **options):
    """(metrics of every step, trainer), with a checkpoint a step where a folder is given."""
    saving = Checkpoints(Run(folder, {}), {}, every=1, keep=9) if folder else None
    if resume is not None:
        saving.restore(resume)
    history = []

    def log(row, _):
        history.append({name: value for name, value in row.items() if name != "seconds"})
        if saving:
            saving.run.log(**row)

    model, processor = model or with_adapter()
    data = examples() if data is None else data
    trainer = sft.Trainer(model, processor, data, arguments(**options))
    return history, loop.train(trainer, log, saving, resume)


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.parameters])


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=ROUNDING, abs=ROUNDING)


@pytest.fixture(scope="module")
def model(tiny_paligemma):
    """(PaliGemma, processor); see `tiny_paligemma`."""
    return tiny_paligemma


@torch.no_grad()
def logits(model, inputs):
    """(B, S, V) of all columns."""
    return model(**{**inputs, "labels": None, "logits_to_keep": 0}).logits


# ---- a row


def test_the_published_settings():
    args = sft.SFTArgs()
    published = {
        "learning_rate": 1e-5,
        "max_steps": 2000,
        "per_device_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.05,
    }
    assert {name: getattr(args, name) for name in published} == published


def test_the_answer_follows_the_prompt_and_is_all_that_is_learnt(model):
    _, processor = model
    inputs = sft.encode(processor, examples(2))
    vocabulary = processor.tokenizer.get_vocab()
    prompts = ["<bos> what is left of the red cube ?", "<bos> what is left of the red cube red cube ?"]
    answers = ["red <eos>", "blue cube <eos>"]
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        prefix = [processor.image_token_id] * 4 * (row + 1) + [vocabulary[word] for word in prompt.split()]
        prefix.append(vocabulary["\n"])
        suffix = [vocabulary[word] for word in answer.split()]
        padding = inputs["input_ids"].shape[1] - len(prefix) - len(suffix)
        assert inputs["input_ids"][row].tolist() == [0] * padding + prefix + suffix
        assert inputs["labels"][row].tolist() == [-100] * (padding + len(prefix)) + suffix
        assert inputs["token_type_ids"][row].tolist() == [0] * (padding + len(prefix)) + [1] * len(suffix)
        assert inputs["attention_mask"][row].tolist() == [0] * padding + [1] * len(prefix + suffix)
        assert inputs["position_ids"][row, padding:].tolist() == list(range(1, len(prefix + suffix) + 1))
    assert padding == 0 and len(inputs["pixel_values"]) == 3 and inputs["logits_to_keep"] == 4


def test_the_prompt_is_the_one_that_is_sampled_from(model):
    _, processor = model
    data = examples(4)
    batch = rollout.encode(processor, [e.prompt for e in data], [e.images for e in data])
    inputs = sft.encode(processor, data)
    prefix = (inputs["token_type_ids"] == 0) & (inputs["attention_mask"] == 1)
    for row in range(4):
        expected = batch.input_ids[row, batch.attention_mask[row] == 1]
        assert torch.equal(inputs["input_ids"][row, prefix[row]], expected)
    torch.testing.assert_close(inputs["pixel_values"], batch.pixel_values, rtol=0, atol=0)


def test_the_prefix_is_read_both_ways_and_the_answer_causally(model):
    paligemma, processor = model
    inputs = sft.encode(processor, examples(3)[2:])  # one row, no padding
    length = inputs["input_ids"].shape[1]
    before = logits(paligemma, inputs)
    for changed in (length - 6, length - 2):  # the prompt's last word but the newline; the answer's last
        other = inputs["input_ids"].clone()
        other[0, changed] = processor.tokenizer.convert_tokens_to_ids("yes")
        moved = (logits(paligemma, {**inputs, "input_ids": other}) - before).abs().amax(-1)[0]
        if inputs["token_type_ids"][0, changed] == 0:
            assert (moved > 1e-4).all(), "some of the prompt does not see its end"
        else:
            assert not moved[:changed].any() and (moved[changed:] > 1e-4).all()


# ---- the loss


def by_hand(model, processor, example):
    """Log-probabilities (T,) of an answer's tokens and end token, mask and positions written out here."""
    prefix = rollout.encode(processor, [example.prompt], [example.images])
    answer = processor.tokenizer(example.answer, add_special_tokens=False)["input_ids"]
    answer = torch.tensor([*answer, processor.tokenizer.eos_token_id])
    ids = torch.cat([prefix.input_ids[0], answer[:-1]])
    size, start = len(ids), prefix.input_ids.shape[1]
    seen = torch.zeros(size, size, dtype=torch.bool)
    seen[:, :start] = True
    seen[start:, start:] = torch.ones(size - start, size - start).tril().bool()
    embeds = model.get_input_embeddings()(ids).clone()
    features = model.get_image_features(prefix.pixel_values).pooler_output
    embeds[ids == processor.image_token_id] = features.flatten(0, 1)
    scores = model(
        inputs_embeds=embeds[None],
        attention_mask=torch.zeros(size, size).masked_fill(~seen, -1e30)[None, None],
        position_ids=torch.arange(1, size + 1)[None],
    ).logits[0, start - 1 :]
    return scores.double().log_softmax(-1).gather(1, answer[:, None])[:, 0]


def test_loss_is_the_token_mean_by_hand(model):
    paligemma, processor = model
    data = examples(4)
    with torch.no_grad():
        expected = -torch.cat([by_hand(paligemma, processor, example) for example in data])
        assert len(expected) == 2 + 3 + 4 + 2
        inputs = sft.encode(processor, data)
        labels = inputs.pop("labels")
        found = sft.answer_loss(paligemma(**inputs).logits, labels, 11)
    assert found.item() == pytest.approx(expected.mean().item(), rel=ROUNDING)
    history, _ = train(data, model=with_adapter(), max_steps=1)  # a new adapter changes nothing
    assert history[0]["loss"] == pytest.approx(expected.mean().item(), rel=ROUNDING)
    assert history[0]["tokens"] == 11


def test_loss_and_gradient_are_the_models_own():
    model, processor = with_adapter()
    with torch.no_grad():  # so that gradients reach lora_A as well
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    trained = [p for p in model.parameters() if p.requires_grad]
    inputs = sft.encode(processor, examples(4))
    own = model(**{**inputs, "logits_to_keep": 0}).loss
    labels = inputs.pop("labels")
    kept = model(**inputs).logits
    assert kept.shape[1] == 5 < labels.shape[1]
    ours = sft.answer_loss(kept, labels, 11)
    assert ours.item() == pytest.approx(own.item(), rel=ROUNDING)
    for one, other in zip(torch.autograd.grad(ours, trained), torch.autograd.grad(own, trained), strict=True):
        torch.testing.assert_close(one, other, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(model, side):
    paligemma, processor = model
    data = examples(4)
    alone = 0.0
    with torch.no_grad():
        for example in data:
            inputs = sft.encode(processor, [example])
            labels = inputs.pop("labels")
            alone += sft.answer_loss(paligemma(**inputs).logits, labels, 11)
        inputs = sft.encode(processor, data)
        for name, value in (("input_ids", 0), ("attention_mask", 0), ("token_type_ids", 0), ("labels", -100)):
            extra = torch.full((4, 3), value)
            rows = [extra, inputs[name]] if side == "left" else [inputs[name], extra]
            inputs[name] = torch.cat(rows, 1)
        inputs["position_ids"] = inputs["attention_mask"].cumsum(1).clamp(min=1)
        inputs["logits_to_keep"] += 3 * (side == "right")
        labels = inputs.pop("labels")
        padded = sft.answer_loss(paligemma(**inputs).logits, labels, 11)
    assert padded.item() == pytest.approx(alone.item(), rel=ROUNDING)


# ---- a step is a step, however it is split


class Watched(list):
    """Examples that remember which of them were read, and in what order."""

    def __init__(self, *args):
        super().__init__(*args)
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index)


def test_micro_batches_change_nothing():
    runs = [
        train(per_device_batch_size=size, gradient_accumulation_steps=4 // size, lora_dropout=0.0)
        for size in (1, 2, 4)
    ]
    for history, trainer in runs[1:]:
        close(history, runs[0][0])
        torch.testing.assert_close(
            weights(trainer),
            weights(runs[0][1]),
            rtol=0,
            atol=tolerance.of_weights(1e-3, tolerance.TINY, steps=2),
        )


def train_in_a_process(folder, count):
    rank = PartialState(cpu=True).process_index
    data = Watched(examples())
    model = with_adapter(seed=rank)  # adapters start out different: the first process's must win
    sizes = {"per_device_batch_size": 1, "gradient_accumulation_steps": 4 // count}
    history, trainer = train(data, model, **sizes)
    broken = Path(folder) / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises((UserError, SystemExit)) as stopped:  # only one process reads it
        train([*examples(3), example(images=(broken,))], with_adapter(), **sizes)
    torch.save((history, weights(trainer), data.read, repr(stopped.value)), f"{folder}/{count}-{rank}")


@pytest.mark.slow
def test_number_of_processes_changes_nothing(tmp_path):
    train_in_a_process(tmp_path, 1)
    command = [sys.executable, __file__, str(tmp_path)]  # fresh: this process has threads, and must not fork
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, check=True, timeout=300, env=environment)
    (history, expected, read, _), (first, after, some, told), (other, same, rest, gone) = (
        torch.load(tmp_path / name) for name in ("1-0", "2-0", "2-1")
    )
    assert not other, "only the main process logs"
    assert torch.equal(after, same)
    torch.testing.assert_close(
        after, expected, rtol=0, atol=tolerance.of_weights(1e-3, tolerance.TINY, steps=2)
    )
    close(first, history)
    assert read == [index for pair in zip(some, rest, strict=True) for index in pair]
    assert "broken.png cannot be read" in told and gone == "SystemExit(2)"


@pytest.mark.parametrize("scope", ["language", "all"])
def test_gradient_checkpointing_changes_nothing(scope):
    runs = []
    for checkpointing in (False, True):
        model, processor = with_adapter(scope=scope, dropout=0.3, target_modules=["q_proj", "v_proj"], seed=1)
        torch.seed()  # what was random before does not matter
        args = arguments(gradient_checkpointing=checkpointing)
        runs.append(train(model=(loop.add_adapter(model, args), processor)))
    (plain, one), (history, two) = runs
    close(history, plain)
    torch.testing.assert_close(
        weights(one), weights(two), rtol=0, atol=tolerance.of_weights(1e-3, tolerance.TINY, steps=2)
    )
    learnt = [name for name, p in two.model.named_parameters() if "lora_B" in name and p.abs().sum() > 0]
    assert any("vision_tower" in name for name in learnt) == (scope == "all")


# ---- a run goes on


def state(trainer):
    """Everything that a run is, apart from the clock."""
    moments = [trainer.optimizer.state[p] for p in trainer.parameters]
    moments = [
        torch.as_tensor(m[name]).clone() for m in moments for name in ("step", "exp_avg", "exp_avg_sq")
    ]
    return [*(p.detach().clone() for p in trainer.parameters), *moments]


def same(first, second):
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("schedule", "stops"),
    [("linear", (1, 3)), ("cosine", (2,)), ("constant", (2,))],
    ids=lambda value: str(value),
)
def test_a_resumed_run_ends_as_one_never_stopped(tmp_path, schedule, stops):
    def run(folder, resume=None, **options):
        data = Watched(examples())
        options = {"lr_scheduler": schedule, "warmup_steps": 2, "max_steps": 4} | options
        history, trainer = train(data, with_adapter(dropout=0.1), folder, resume, **options)
        return history, trainer, data.read

    history, whole, read = run(tmp_path / "whole")
    assert read == [example_index(draw, 6, 0) for draw in range(16)], "several passes, each in its order"
    expected = state(whole)
    assert [(row["step"], row["epoch"]) for row in history] == [(n, n * 4 / 6) for n in (1, 2, 3, 4)]
    for step in stops:
        torch.seed()
        rest, again, reread = run(tmp_path / f"from-{step}", tmp_path / f"whole/checkpoint-{step}")
        assert same(state(again), expected) and rest == history[step:]
        assert reread == read[4 * step :]


def test_a_run_that_is_at_its_end_stays_there(tmp_path):
    _, whole = train(folder=tmp_path)
    history, again = train(folder=tmp_path, resume=tmp_path / "checkpoint-2")
    assert not history and again.steps == 2 and same(state(again), state(whole))


def test_a_resumed_run_has_its_loss_scale(tmp_path, monkeypatch):
    def run(folder, resume=None):
        model = half_precision(torch.float16)
        sizes = {"gradient_accumulation_steps": 1, "max_steps": 6}
        return train(examples(2), model, folder, resume, **sizes)[1]

    monkeypatch.setattr(precision, "LOSS_SCALE", 2.0**24)
    whole = run(tmp_path / "whole")
    monkeypatch.undo()
    again = run(tmp_path / "again", tmp_path / "whole/checkpoint-2")
    assert again.scaler.state_dict() == whole.scaler.state_dict()
    assert precision.LOSS_SCALE < again.scaler.get_scale() < 2**24 and same(state(again), state(whole))


# ---- training


def test_it_learns_the_answers():
    model, processor = with_adapter()
    with torch.no_grad():  # random weights alone cannot be sure of anything
        model.get_base_model().model.language_model.norm.weight.fill_(4.0)
    data = examples(4)
    options = {"learning_rate": 0.02, "lr_scheduler": "constant", "max_steps": 25}
    options |= {"per_device_batch_size": 4, "gradient_accumulation_steps": 1}
    history, _ = train(data, (model, processor), **options)
    assert history[0]["loss"] > 5 and history[-1]["loss"] < 0.05, history
    assert not model.training
    batch = rollout.encode(processor, [e.prompt for e in data], [e.images for e in data])
    said = rollout.decode(processor, rollout.sample(model, batch, 1, 6, temperature=0))
    assert [text for (text,) in said] == [example.answer for example in data]


def test_gradients_are_clipped_and_the_learning_rate_falls():
    history, trainer = train(max_steps=1, max_grad_norm=0.5)
    moments = [trainer.optimizer.state[p]["exp_avg"].flatten() for p in trainer.parameters]
    assert history[0]["grad_norm"] > 1  # as it was before; a tenth of it enters Adam's mean
    assert torch.cat(moments).norm().item() == pytest.approx(0.05, rel=1e-4)
    assert [row["lr"] for row in train()[0]] == pytest.approx([1e-3, 5e-4])


def half_precision(dtype):
    """(model, processor) with weights in `dtype` and a float32 adapter."""
    model, processor = tiny.paligemma()
    torch.manual_seed(0)
    precision.float32_stream(model.to(dtype))
    return loop.add_adapter(model, arguments(lora_r=4, lora_dropout=0.0)), processor


@pytest.mark.parametrize(
    ("dtype", "begins", "ends"),
    [
        (torch.bfloat16, precision.LOSS_SCALE, 1),
        (torch.float16, precision.LOSS_SCALE, precision.LOSS_SCALE),
        (torch.float16, 2.0**24, None),  # too large: lowered until the same step succeeds
    ],
)
def test_half_precision_learns_what_full_precision_does(dtype, begins, ends, monkeypatch):
    def run(dtype, steps):
        options = {"max_steps": steps, "gradient_accumulation_steps": 1}
        return train(examples(2), half_precision(dtype), **options)

    (full,), _ = run(torch.float32, 1)
    monkeypatch.setattr(precision, "LOSS_SCALE", begins)
    half, trainer = run(dtype, 4)
    assert {parameter.dtype for parameter in trainer.parameters} == {torch.float32}
    scale = trainer.scaler.get_scale()
    assert scale == ends if ends else 1 < scale < begins
    assert half[0]["loss"] == pytest.approx(full["loss"], rel=0.02)
    assert half[0]["grad_norm"] == pytest.approx(full["grad_norm"], rel=0.05), "gradients are not scaled back"
    assert half[-1]["loss"] < half[0]["loss"] and all(row["grad_norm"] for row in half)
    assert [row["lr"] for row in half] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])


def test_nothing_is_written_or_printed_but_the_bar(tmp_path, monkeypatch, capsys, recwarn):
    there, temporary = tmp_path / "there", tmp_path / "temporary"
    there.mkdir(), temporary.mkdir()
    monkeypatch.chdir(there)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    model = with_adapter()
    capsys.readouterr()
    get_logger().addHandler(handler := logging.StreamHandler(sys.stderr))
    try:
        train(model=model)
    finally:
        get_logger().removeHandler(handler)
    printed = capsys.readouterr()
    assert not printed.out and "loss=" in printed.err
    lines = printed.err.replace("\r", "\n").split("\n")
    assert all(line.startswith("sft:") for line in lines if line.strip())
    assert not list(there.iterdir()) and not list(temporary.iterdir())
    shown = [w for w in recwarn if not issubclass(w.category, DeprecationWarning | FutureWarning)]
    assert not shown, [str(warning.message) for warning in shown]


# ---- a Qwen


def films(count=4):
    """Videos, and an image, with answers of different lengths."""
    shown = [Video([tiny.image(10 * n + frame, 16, 12) for frame in range(4)]) for n in range(count - 1)]
    pictures = [*shown, (tiny.image(99, 24, 24),)]
    return [replace(each, images=images) for each, images in zip(examples(count), pictures, strict=True)]


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl"])
def chat(request, tmp_path_factory):
    return tiny_chat.save_model(tmp_path_factory.mktemp(request.param), request.param)


def chat_with_adapter(folder):
    model, processor = tiny_chat.load(folder)
    torch.manual_seed(0)
    return loading.add_lora(model, r=4, alpha=8, dropout=0.0), processor


def test_a_qwens_loss_is_the_models_own(chat):
    """Each row alone, unpadded, through the model's own forward with its own labels and positions."""
    model, processor = chat_with_adapter(chat)
    core, data, total, tokens = model.get_base_model(), films(), 0.0, 0
    for each in data:
        batch = rollout.encode(processor, [each.prompt], [each.images])
        ids = processor.tokenizer(each.answer + processor.tokenizer.eos_token, add_special_tokens=False)
        answer = torch.tensor([ids["input_ids"]])
        labels = torch.cat([torch.full_like(batch.input_ids, -100), answer], 1)
        (visual,) = batch.visuals[0]
        grid = torch.tensor([visual.grid])
        seen = (
            ("pixel_values", "image_grid_thw")
            if visual.seconds is None
            else ("pixel_values_videos", "video_grid_thw")
        )
        positions = qwen.positions(core, batch)
        after = positions.max() + torch.arange(1, answer.shape[1] + 1)
        with torch.no_grad():
            loss = core(
                input_ids=torch.cat([batch.input_ids, answer], 1),
                position_ids=torch.cat([positions, after.expand(3, 1, -1)], 2),
                labels=labels,
                **dict(zip(seen, (visual.patches, grid), strict=True)),
            ).loss
        total, tokens = total + loss.item() * answer.shape[1], tokens + answer.shape[1]
    options = {"max_steps": 1, "per_device_batch_size": 2, "gradient_checkpointing": False}
    history, _ = train(data, (model, processor), **options)
    assert history[0]["tokens"] == tokens
    assert history[0]["loss"] == pytest.approx(total / tokens, rel=ROUNDING)


def test_a_qwen_learns_in_any_micro_batches_and_resumes_where_it_stopped(chat, tmp_path):
    options = {"learning_rate": 0.02, "lr_scheduler": "constant", "max_steps": 3}
    whole, trainer = train(films(), chat_with_adapter(chat), tmp_path / "whole", **options)
    assert whole[-1]["loss"] < whole[0]["loss"]
    _, other = train(
        films(),
        chat_with_adapter(chat),
        **options,
        per_device_batch_size=4,
        gradient_accumulation_steps=1,
    )
    torch.testing.assert_close(
        weights(other), weights(trainer), rtol=0, atol=tolerance.of_weights(0.02, tolerance.TINY, steps=3)
    )
    resumed = tmp_path / "whole/checkpoint-2"
    again, second = train(films(), chat_with_adapter(chat), tmp_path / "again", resumed, **options)
    assert again == whole[2:] and torch.equal(weights(second), weights(trainer))


def test_rows_that_a_qwen_cannot_read_are_named_before_training(chat):
    with pytest.raises(UserError, match=r"row row-7: prompt or answer holds '<\|im_end\|>'"):
        train([*films(), example(answer="no <|im_end|>")], chat_with_adapter(chat))


# ---- what goes wrong


def test_damaged_weights_stop():
    model, processor = with_adapter()
    with torch.no_grad():
        model.get_base_model().model.language_model.norm.weight.fill_(math.nan)
    before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    with pytest.raises(UserError, match="the loss is not finite at step 1.*--learning_rate"):
        train(model=(model, processor))
    assert same(before, [p for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_gradient_that_is_not_finite_stops(dtype):
    """In float16 the scale is halved first, without going on to another step; at 1 that is no excuse."""
    model, processor = half_precision(dtype)
    trained = [p for p in model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    trained[-1].register_hook(lambda grad: grad * math.inf)
    with pytest.raises(UserError, match="the gradient is not finite at step 1; stopped before"):
        train(model=(model, processor), max_steps=20, per_device_batch_size=1, gradient_accumulation_steps=1)
    assert same(before, trained)


def test_too_little_memory():
    model, processor = with_adapter()

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.get_base_model().model.language_model.register_forward_pre_hook(full)
    with pytest.raises(UserError, match="too little memory; use a smaller --per_device_batch_size"):
        train(model=(model, processor))


def example(**fields):
    usual = {"id": "row-7", "images": (tiny.image(0),), "question": "red?", "answer": "no", "task": "t"}
    return Example(**(usual | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"question": "how many " * 4000}, "row row-7, .* takes 8,008 tokens, .* has room for 4,096"),
        ({"answer": "red " * 5000}, "row row-7, .* takes 5,009 tokens"),
        ({"answer": "<image>"}, "row row-7: prompt or answer holds '<image>'"),
    ],
)
def test_rows_that_cannot_be_read_are_named_before_training(fields, message):
    with pytest.raises(UserError, match=message):
        train([*examples(), example(**fields)], max_steps=1)


def test_a_broken_image_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="broken.png cannot be read"):
        train([example(images=(tmp_path / "broken.png",))])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_device_batch_size": 0}, "--per_device_batch_size must be greater than 0, not 0"),
        ({"gradient_accumulation_steps": -1}, "--gradient_accumulation_steps must be greater than 0, not -1"),
        ({"max_steps": 0}, "--max_steps must be greater than 0, not 0"),
        ({"learning_rate": math.nan}, "--learning_rate must be greater than 0, not nan"),
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(UserError, match=message):
        train(**options)


def test_no_examples_no_adapter_and_other_attention():
    with pytest.raises(UserError, match="no examples"):
        train([])
    with pytest.raises(ValueError, match="add_adapter"):
        train(model=tiny.paligemma())
    model, processor = with_adapter()
    model.get_base_model().config.text_config._attn_implementation = "sdpa"
    with pytest.raises(ValueError, match="attn_implementation='eager'"):
        train(model=(model, processor))


if __name__ == "__main__":
    debug_launcher(train_in_a_process, (sys.argv[1], 2), num_processes=2)
