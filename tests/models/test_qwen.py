"""Qwen2-VL and Qwen2.5-VL: sampled, packed and one row at a time are one number, with images and videos.

The reference is `alone`: a completion by itself through the model's own forward, which finds its positions
and masks itself, without padding, packing or cache.
"""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import tiny
import tolerance
import torch
from tiny_chat import load, save_model

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.evaluation.evaluate import predict
from spatialvlm.example import Example, Video
from spatialvlm.models import loading, qwen, rollout
from spatialvlm.training import grpo

sys.path.insert(
    0, str(Path(__file__).resolve().parents[2] / "benchmarks")
)  # scripts lie beside what they use

import grpo_step

G, T = 3, 5
PROMPTS = [
    "how many red cubes are there ?",
    "what is left of the blue sphere behind the green cube in front of the red cube ?",
    "yes or no ?",
    "how many ?",
]


def film(seed, count=8, interval=0.125, **size):
    """Frames of random pixels; by default Qwen2.5-VL's time goes in steps of 1, as Qwen2-VL's does."""
    return Video([tiny.image(100 * seed + number, **size) for number in range(count)], interval)


IMAGES = [
    [tiny.image(0)],
    [tiny.image(1, 24, 40), tiny.image(2)],
    film(3, width=32, height=32),
    film(4, count=3, width=40, height=24),
]
ROUNDING = tolerance.rounding(tolerance.TINY, steps=2)


@pytest.fixture(scope="module", params=qwen.TYPES)
def folder(request, tmp_path_factory):
    return save_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def loaded(folder):
    return load(folder)


@pytest.fixture(scope="module")
def lora(folder):
    """(model, processor) with adapters that are not zero, in language model and vision tower."""
    model, processor = load(folder)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj", "qkv"])
    torch.manual_seed(1)
    model = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    return model.eval(), processor


@pytest.fixture
def batch(loaded):
    return rollout.encode(loaded[1], PROMPTS, IMAGES)


@pytest.fixture
def few_words(batch):
    """The batch with a vocabulary of six words and the end token: completions of all lengths."""
    allowed = torch.zeros_like(batch.vocabulary.allowed)
    allowed[[batch.vocabulary.eos, 5, 10, 15, 20, 25, 30]] = True
    return replace(batch, vocabulary=replace(batch.vocabulary, allowed=allowed))


def sampled(model, batch, seed=0, **options):
    return rollout.sample(
        model, batch, G, T, seeds=[seed + row for row in range(len(batch.input_ids))], **options
    )


def own_inputs(model, batch, row) -> dict:
    """What transformers' own calls take for one prompt."""
    one, core = batch.select([row]), model.get_base_model() if hasattr(model, "get_base_model") else model
    (visuals,), config = one.visuals, core.config
    kinds = (one.input_ids == config.image_token_id) + 2 * (one.input_ids == config.video_token_id)
    inputs = {"input_ids": one.input_ids, "mm_token_type_ids": kinds.int()}
    names = ("pixel_values", "image_grid_thw")
    if visuals[0].seconds is not None:
        names = ("pixel_values_videos", "video_grid_thw")
        if config.model_type == "qwen2_5_vl":
            inputs["second_per_grid_ts"] = torch.tensor([visual.seconds for visual in visuals])
    parts = torch.cat([p.patches for p in visuals]), torch.tensor([p.grid for p in visuals])
    return inputs | dict(zip(names, parts, strict=True))


def alone(model, batch, completions, row, number):
    """Log-probabilities (length,) of one completion, by the model's own forward on exactly its tokens."""
    inputs = own_inputs(model, batch, row)
    tokens = completions.tokens[row, number][completions.mask[row, number]][None]
    start = inputs["input_ids"].shape[1] - 1
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tokens], 1)
    none = torch.zeros_like(tokens).int()
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], none], 1)
    logits = model(**inputs, attention_mask=torch.ones_like(inputs["input_ids"])).logits
    logits = logits[0, start:-1, : len(batch.vocabulary.allowed)]
    logits = logits.masked_fill(~batch.vocabulary.allowed, -torch.inf)
    return logits.log_softmax(-1).gather(1, tokens[0][:, None])[:, 0]


def gradients(model, logps):
    """Gradients of a weighted sum of `logps` as one vector."""
    weights = torch.randn(logps.shape, generator=torch.Generator().manual_seed(0))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    grads = torch.autograd.grad((logps * weights).sum(), parameters, allow_unused=True)
    return torch.cat([grad.flatten() for grad in grads if grad is not None])


def assert_equal_gradients(found, expected):
    assert expected.norm() > 0
    assert (found - expected).norm() / expected.norm() < 1e-5


# ---- one number, however it is computed


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_sampled_equals_packed_equals_plain_equals_alone(loaded, few_words, attention):
    model, _ = loaded
    assert model.config.get_text_config()._attn_implementation == "sdpa"
    model.set_attn_implementation(attention)
    try:
        completions = sampled(model, few_words)
        lengths = completions.mask.sum(-1)
        assert lengths.min() < lengths.max(), "the sample should hold completions that end early"
        packed = rollout.per_token_logps(model, few_words, completions)
        plain = rollout.per_token_logps_plain(model, few_words, completions)
        torch.testing.assert_close(packed, completions.logps, atol=1e-5, rtol=0)
        torch.testing.assert_close(plain, completions.logps, atol=1e-5, rtol=0)
        for row in range(len(PROMPTS)):
            for number in range(G):
                expected = alone(model, few_words, completions, row, number)
                found = packed[row, number][completions.mask[row, number]]
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    finally:
        model.set_attn_implementation("sdpa")


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("adapter", [True, False])
def test_packed_equals_plain_with_lora(lora, few_words, adapter, checkpointing):
    model, _ = lora
    completions = sampled(model, few_words)
    with torch.no_grad(), model.disable_adapter():
        base = rollout.per_token_logps(model, few_words, completions)
        plain = rollout.per_token_logps_plain(model, few_words, completions)
        torch.testing.assert_close(plain, base, atol=1e-5, rtol=0)
        for row in range(len(PROMPTS)):
            found = base[row, 1][completions.mask[row, 1]]
            expected = alone(model, few_words, completions, row, 1)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    if not adapter:
        assert (base - completions.logps).abs().max() > 0.1, "the adapter should matter"
        return
    core = model.get_base_model()
    model.train()  # layers are checkpointed only in training mode; there is no dropout here
    if checkpointing:
        core.gradient_checkpointing_enable()
    try:
        packed = rollout.per_token_logps(model, few_words, completions)
        plain = rollout.per_token_logps_plain(model, few_words, completions)
        torch.testing.assert_close(packed, completions.logps, atol=1e-5, rtol=0)
        torch.testing.assert_close(plain, completions.logps, atol=1e-5, rtol=0)
        assert_equal_gradients(gradients(model, packed), gradients(model, plain))
    finally:
        core.gradient_checkpointing_disable()
        model.eval()


@pytest.mark.parametrize("row", range(len(PROMPTS)))
def test_gradients_of_all_weights_for_one_image_two_and_a_video(folder, few_words, row):
    model, _ = load(folder)
    one = few_words.select([row])
    completions = sampled(model, one)
    expected = gradients(model, rollout.per_token_logps_plain(model, one, completions))
    assert_equal_gradients(gradients(model, rollout.per_token_logps(model, one, completions)), expected)


def test_shared_features_change_nothing_and_carry_no_gradient_when_vision_is_frozen(folder, few_words):
    model, _ = load(folder)
    completions = sampled(model, few_words)
    expected = rollout.per_token_logps(model, few_words, completions)
    assert rollout.vision_is_trained(model) and rollout.image_features(model, few_words).requires_grad
    model.model.visual.requires_grad_(False)
    features = rollout.image_features(model, few_words)
    assert not rollout.vision_is_trained(model) and not features.requires_grad
    shared = replace(few_words, features=features)
    torch.testing.assert_close(rollout.per_token_logps(model, shared, completions), expected)
    assert torch.equal(sampled(model, shared).tokens, completions.tokens)
    for rows in ([1, 2], [3, 0]):
        selected = rollout.per_token_logps(model, shared.select(rows), completions.select(rows))
        torch.testing.assert_close(selected, expected[rows, :, : selected.shape[2]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("score", [rollout.per_token_logps, rollout.per_token_logps_plain])
def test_nobody_looks_ahead_or_aside(loaded, batch, score):
    model, _ = loaded
    completions = sampled(model, batch)
    everything = torch.ones_like(completions.mask)
    completions = rollout.Completions(completions.tokens.clamp(max=40), everything, completions.logps)
    before = score(model, batch, completions)
    tokens = completions.tokens.clone()
    tokens[:, 1, 3] = (tokens[:, 1, 3] + 7) % 40  # another word late in the middle completion
    after = score(model, batch, rollout.Completions(tokens, everything, completions.logps))
    torch.testing.assert_close(after[:, 1, :3], before[:, 1, :3], atol=1e-6, rtol=0)
    torch.testing.assert_close(after[:, [0, 2]], before[:, [0, 2]], atol=1e-6, rtol=0)
    assert (after[:, 1, 3:] - before[:, 1, 3:]).abs().min() > 1e-4


@pytest.mark.parametrize("score", [rollout.per_token_logps, rollout.per_token_logps_plain])
def test_other_images_and_frames_in_another_order_matter(loaded, batch, score):
    model, processor = loaded
    completions = sampled(model, batch)
    video = IMAGES[2]
    others = [
        [tiny.image(9)],
        IMAGES[1][::-1],
        Video(video[::-1], video.interval),
        film(5, 3, width=40, height=24),
    ]
    changed = rollout.encode(processor, PROMPTS, others)
    difference = (score(model, changed, completions) - score(model, batch, completions)).abs()
    assert difference.amax((1, 2)).min() > 1e-3, difference


def test_a_video_is_not_its_frames_one_by_one(loaded):
    model, processor = loaded
    video, stills = (rollout.encode(processor, PROMPTS[:1], [each]) for each in (IMAGES[2], list(IMAGES[2])))
    assert 2 * qwen.is_image(model, video).sum() == qwen.is_image(model, stills).sum()
    completions = sampled(model, video)
    logps = [rollout.per_token_logps(model, each, completions) for each in (video, stills)]
    assert (logps[0] - logps[1]).abs().max() > 1e-3


def test_greedy_equals_generate(loaded, batch):
    model, processor = loaded
    tokenizer = processor.tokenizer
    never = sorted(set(tokenizer.all_special_ids) - {tokenizer.eos_token_id})
    never += range(len(tokenizer), model.config.get_text_config().vocab_size)
    completions = rollout.sample(model, batch, 1, 8, temperature=0)
    for row in range(len(PROMPTS)):
        inputs = own_inputs(model, batch, row)
        expected = model.generate(
            **inputs,
            do_sample=False,
            repetition_penalty=1.0,
            max_new_tokens=8,
            suppress_tokens=never,
            pad_token_id=tokenizer.pad_token_id,
        )[0, inputs["input_ids"].shape[1] :]
        assert completions.tokens[row, 0][completions.mask[row, 0]].tolist() == expected.tolist()
    assert len({tuple(row) for row in completions.tokens[:, 0].tolist()}) > 2


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_batch_size_padding_and_group_size_change_nothing(loaded, few_words, temperature):
    model, _ = loaded
    together = sampled(model, few_words, temperature=temperature)
    for row in range(len(PROMPTS)):
        one = rollout.sample(model, few_words.select([row]), G + 1, T + 1, temperature, seeds=[row])
        for number in range(G):
            end = int(together.mask[row, number].sum())
            assert torch.equal(one.tokens[0, number, :end], together.tokens[row, number, :end])
            logps = one.logps[0, number, :end], together.logps[row, number, :end]
            torch.testing.assert_close(*logps, atol=1e-5, rtol=0)
            assert end == together.tokens.shape[2] or not one.mask[0, number, end:].any()
    packed = rollout.per_token_logps(model, few_words, together, temperature)
    torch.testing.assert_close(packed, together.logps, atol=1e-5, rtol=0)


def test_special_tokens_and_ids_without_a_token_are_never_sampled(loaded, batch):
    model, processor = loaded
    tokens = rollout.sample(model, batch, 200, 3, temperature=3.0, seeds=range(len(PROMPTS)))
    drawn = set(tokens.tokens[tokens.mask].tolist())
    special = set(processor.tokenizer.all_special_ids) - {processor.tokenizer.eos_token_id}
    assert len(drawn) > 30 and not drawn & special and max(drawn) < len(processor.tokenizer)


# ---- positions


def test_positions_are_the_models_own_where_time_is_the_shorter_axis(loaded, batch):
    model, _ = loaded
    found = qwen.positions(model, batch)
    for row in range(len(PROMPTS)):
        inputs = own_inputs(model, batch, row)
        inputs = {name: value for name, value in inputs.items() if not name.startswith("pixel")}
        expected, _ = model.model.get_rope_index(**inputs)
        assert torch.equal(found[:, [row]][:, :, batch.attention_mask[row].bool()], expected)


def test_text_continues_after_the_greatest_position_of_a_long_video(loaded):
    """As Qwen2-VL was trained; transformers 5.23 counts on from the frames' width and height alone."""
    model, processor = loaded
    batch = rollout.encode(processor, ["how many ?"], [film(0, count=20, interval=0.5, width=16, height=8)])
    positions, seen = qwen.positions(model, batch)[:, 0], qwen.is_image(model, batch)[0]
    first = seen.nonzero()[0].item()
    steps = 10  # of two frames, each a second long
    step = 1 if model.config.model_type == "qwen2_vl" else model.config.vision_config.tokens_per_second
    expected = [(t * step, 0, column) for t in range(steps) for column in (0, 1)]
    assert [tuple(each) for each in (positions[:, seen].T - first).tolist()] == expected
    behind = positions[:, seen.nonzero()[-1].item() + 1 :]
    assert (behind == first + (steps - 1) * step + 1 + torch.arange(behind.shape[1])).all()


def test_positions_of_completions_restart_behind_the_prefix(loaded, few_words):
    model, _ = loaded
    seen = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda module, args, inputs: seen.append(inputs["position_ids"]), with_kwargs=True
    )
    completions = sampled(model, few_words)
    fed = completions.tokens.shape[2] - 1
    rollout.per_token_logps(model, few_words, completions)
    hook.remove()
    prefix, *steps, packed = seen
    after = prefix.amax((0, 2))[:, None] + 1 + torch.arange(fed)  # (B, T - 1)
    width = prefix.shape[2]
    assert torch.equal(packed[:, :, :width], prefix)
    assert torch.equal(packed[:, :, width:], after.repeat(1, G).expand(3, -1, -1))
    for number, step in enumerate(steps):
        assert torch.equal(step, after[:, [number]].expand(3, -1, G))


# ---- inputs


def test_a_video_is_laid_out_two_frames_at_a_time(loaded):
    _, processor = loaded
    levels = [10, 60, 110, 160, 210]
    frames = Video([tiny.image(0).point(lambda _, level=level: level) for level in levels])
    ((visual,),) = rollout.encode(processor, ["how many ?"], [frames]).visuals
    steps, height, width = visual.grid
    assert steps == 3 and visual.seconds == 1.0  # two a second by default
    patches = visual.patches.view(steps, height * width, 3, 2, 16)
    colours = zip(processor.image_processor.image_mean, processor.image_processor.image_std, strict=True)
    for channel, (mean, deviation) in enumerate(colours):
        expected = (torch.tensor([*levels, levels[-1]]) / 255 - mean) / deviation  # the last fills its patch
        torch.testing.assert_close(patches[:, 0, channel, :, 0].flatten(), expected, atol=1e-5, rtol=0)
        assert (patches[:, :, channel] - patches[:, :1, channel, :, :1]).abs().max() < 1e-6


def test_a_video_of_equal_frames_has_the_features_of_an_image(loaded):
    model, processor = loaded
    still, film = ([tiny.image(3)], Video([tiny.image(3)] * 2))
    still, film = (rollout.encode(processor, ["how many ?"], [each]) for each in (still, film))
    features = [rollout.image_features(model, each) for each in (still, film)]
    torch.testing.assert_close(*features)
    assert torch.equal(still.visuals[0][0].patches, film.visuals[0][0].patches)
    assert not torch.equal(still.input_ids, film.input_ids)  # its own token


def test_a_prompt_is_a_turn_of_the_user(loaded, batch):
    tokenizer = loaded[1].tokenizer
    texts = [
        tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]
    for text, prompt, visuals in zip(texts, PROMPTS, batch.visuals, strict=True):
        assert prompt in text and text.count("<|vision_start|>") == len(visuals)
        tokens = sum(t * h * w // 4 for t, h, w in (visual.grid for visual in visuals))
        pads = text.count("<|video_pad|>" if visuals[0].seconds else "<|image_pad|>")
        assert pads == tokens == text.count("_pad|>")
    assert batch.attention_mask[0, 0] == 0 and batch.attention_mask[:, -1].all()  # padded on the left


def test_images_are_preprocessed_once(loaded, monkeypatch):
    _, processor = loaded
    calls, cache = [], rollout.ImageCache()
    original = type(processor.image_processor).preprocess

    def counted(self, images, *args, **kwargs):
        calls.append(len(images))
        return original(self, images, *args, **kwargs)

    monkeypatch.setattr(type(processor.image_processor), "preprocess", counted)
    batches = [rollout.encode(processor, PROMPTS, IMAGES, cache=cache) for _ in range(2)]
    assert sum(calls) == sum(map(len, IMAGES))
    first, second = ([p.patches for each in batch.visuals for p in each] for batch in batches)
    assert all(map(torch.equal, first, second))


def test_what_cannot_be_a_prompt(loaded, tmp_path):
    processor = loaded[1]

    def encode(images, prompt="how many ?"):
        return rollout.encode(processor, [prompt], [images])

    for images in ([], Video([])):
        with pytest.raises(ValueError, match="each prompt needs one or more"):
            encode(images)
    with pytest.raises(UserError, match="keeps for itself"):
        encode(IMAGES[0], "how many <|video_pad|> ?")
    with pytest.raises(UserError, match="gone.png does not exist"):
        encode(Video([tiny.image(0), tmp_path / "gone.png"]))
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UserError, match="cut.png cannot be read"):
        encode(Video([tmp_path / "cut.png"]))
    with pytest.raises(UserError, match="frames of one video differ in size"):
        encode(Video([tiny.image(0, 32, 32), tiny.image(1, 16, 16)]))
    for interval in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be a number above 0"):
            Video([tiny.image(0)], interval)


def test_a_video_keeps_its_interval_between_processes():
    sent = copy.copy(film(0, interval=0.25))  # by the same protocol as between processes
    assert isinstance(sent, Video) and len(sent) == 8 and sent.interval == 0.25


def test_what_would_be_wrong_is_refused(loaded, batch):
    model, _ = loaded
    text = model.config.get_text_config()
    text._attn_implementation = "flash_attention_2"
    try:
        with pytest.raises(ValueError, match="attn_implementation='sdpa'"):
            rollout.sample(model, batch, 1, 1)
    finally:
        text._attn_implementation = "sdpa"
    with pytest.raises(ValueError, match="image tokens for image features"):
        rollout.sample(model, replace(batch, features=rollout.image_features(model, batch)[1:]), 1, 1)


# ---- training and evaluation


def examples(count=6):
    """Images, pairs of them and videos, with questions of several lengths."""
    images = [[tiny.image(0)], [tiny.image(1), tiny.image(2, 24, 24)], film(3, width=16, height=16)]
    return [
        Example(
            id=str(number),
            images=each if isinstance(each, Video) else tuple(each),
            question="what is left of the" + " red cube" * (number % 2 + 1) + " ?",
            answer="red",
            task="colour",
            choices=("red", "blue"),
        )
        for number in range(count)
        for each in images[number % 3 : number % 3 + 1]
    ]


def trained(folder, steps, reward, **options):
    """(metrics of every step, trainer)."""
    model, processor = load(folder)
    torch.manual_seed(0)
    model = loading.add_lora(model, r=4, alpha=8, dropout=0.0)
    small = {"num_generations": 4, "prompts_per_device": 2, "gradient_accumulation_steps": 2}
    args = grpo.GRPOArgs(**(small | {"max_completion_length": 4, "learning_rate": 1e-3} | options))
    trainer = grpo.Trainer(model, processor, examples(), reward, args)
    return [trainer.take_step() for _ in range(steps)], trainer


def by_length(completion, example):
    return len(completion) / 10 + completion.count("e")


def test_a_training_step_equals_one_row_per_completion(folder, monkeypatch):
    weights = []
    for score in (rollout.per_token_logps, rollout.per_token_logps_plain):
        monkeypatch.setattr(rollout, "per_token_logps", score)
        metrics, trainer = trained(folder, 2, by_length, prompts_per_device=4, gradient_accumulation_steps=1)
        assert metrics[0]["grad_norm"] > 0 and metrics[1]["kl"] > 1e-6
        weights.append(torch.cat([parameter.detach().flatten() for parameter in trainer.parameters]))
    # AdamW divides by the gradient's size, so that rounding shows where that is next to nothing.
    torch.testing.assert_close(*weights, rtol=0, atol=tolerance.of_weights(1e-3, tolerance.TINY, steps=2))


def test_micro_batches_change_nothing(folder):
    (first, _), (second, _) = (
        trained(folder, 2, by_length, prompts_per_device=size, gradient_accumulation_steps=4 // size)
        for size in (1, 4)
    )
    for found, expected in zip(first, second, strict=True):
        expected = {name: value for name, value in expected.items() if name != "seconds"}
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=ROUNDING, abs=ROUNDING)


def test_the_vision_tower_is_frozen_and_sees_each_prompt_once(folder, capsys):
    seen = []
    model, processor = load(folder)
    core_visual = model.model.visual
    model = loading.add_lora(model, r=4, dropout=0.0)
    assert "(language " in capsys.readouterr().out and not rollout.vision_is_trained(model)
    assert (
        loading.trainable_parameters(model)["vision"] == loading.trainable_parameters(model)["projector"] == 0
    )
    core_visual.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    args = grpo.GRPOArgs(
        num_generations=4,
        prompts_per_device=1,
        gradient_accumulation_steps=6,
        max_completion_length=4,
        dynamic_sampling=False,
    )
    grpo.Trainer(model, processor, examples(), by_length, args).take_step()
    every = rollout.encode(processor, *zip(*[(e.prompt, e.images) for e in examples()], strict=True))
    assert sum(seen) == sum(len(visual.patches) for each in every.visuals for visual in each)


def test_all_parts_can_be_trained(folder):
    """The merger's last layer is named 2."""
    model, _ = load(folder)
    model = loading.add_lora(
        model, r=2, target_modules=["q_proj", "qkv", "2"], scope="all"
    )  # 2: of the merger
    parts = loading.trainable_parameters(model)
    assert all(parts.values()) and rollout.vision_is_trained(model)
    assert sum(parts.values()) == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.filterwarnings("ignore:after 4 further rounds")  # once all is right, nothing is left to learn
def test_reward_rises(folder):
    def is_red(completion, example):
        return float(completion.split()[:1] == [example.answer])

    history, _ = trained(
        folder,
        12,
        is_red,
        num_generations=8,
        prompts_per_device=3,
        gradient_accumulation_steps=1,
        learning_rate=0.03,
        max_completion_length=1,
        lr_scheduler="constant",
        max_resamples=4,
    )
    rewards = [metrics["reward"] for metrics in history]
    assert sum(rewards[:3]) / 3 < 0.3 and sum(rewards[-3:]) / 3 > 0.8, rewards


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_answers_the_same_in_every_batch_size(loaded, workers):
    answers = [
        predict(*loaded, examples(), batch_size=size, max_new_tokens=8, num_workers=workers)
        for size in (1, 6)
    ]
    assert answers[0] == answers[1]
    texts = {record["completions"][0] for record in answers[0]}
    assert len(texts) > 2


# ---- the benchmark

QUICK = (
    "--shape qwen2-vl-small --decoder_layers 1 --vision_layers 1 --prompts 1 --num_generations 2 --steps 1"
)


def benchmark(flags):
    return cli.run(grpo_step.main, grpo_step.Args, f"{QUICK} {flags}".split())


def test_the_benchmark_compares_steps_on_videos(tmp_path):
    (found,) = benchmark(f"--completion_length 3 --output_dir {tmp_path}")["results"]
    assert found["ways"].keys() == {"plain", "ours"}
    assert max(found["agreement"]["ours"].values()) < 1e-5
    assert found["ways"]["plain"]["flops"] > 1.8 * found["ways"]["ours"]["flops"]


@pytest.mark.parametrize("flags", ["--ways plain trl", "--profile_step"])
def test_what_the_benchmark_cannot_do_with_a_qwen(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        benchmark(flags)
    assert ended.value.code == 2 and "goes with --ways plain ours" in capsys.readouterr().err
