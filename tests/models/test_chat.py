"""Chat models, tiny and random, of the published classes: what they are asked; batches change nothing."""

import json
import shutil
from pathlib import Path

import peft
import pytest
import tiny
import torch
from tiny_chat import TEMPLATE, load, save_model
from transformers import GenerationConfig, Qwen2_5_VLProcessor

from spatialvlm.errors import UserError
from spatialvlm.models import loading, qwen, rollout
from spatialvlm.models.loading import ModelArgs

QUESTIONS = [
    "how many red cubes are there ?",
    "how many ?",
    "is the red sphere left of the blue cube ? yes or no",
]


@pytest.fixture(scope="module", params=qwen.TYPES)
def folder(request, tmp_path_factory):
    return save_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def loaded(folder):
    return load(folder)


@pytest.fixture
def copied(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def example_images(count: int = len(QUESTIONS)):
    """One each, of several shapes."""
    return [[tiny.image(seed, 24 + 16 * seed, 40 - 8 * seed)] for seed in range(count)]


def ask(loaded, prompts, images, num_samples=1, length=10, temperature=0.0, seeds=None):
    model, processor = loaded
    batch = rollout.encode(processor, prompts, images)
    seeds = seeds or range(len(prompts))
    found = rollout.sample(model, batch, num_samples, length, temperature, seeds=seeds)
    return rollout.decode(processor, found)


# ---- answers


def inputs_of(processor, prompt, images) -> dict:
    """One prompt alone, as transformers' own calls take it."""
    batch = rollout.encode(processor, [prompt], [images])
    image = processor.tokenizer.convert_tokens_to_ids(qwen.IMAGE)
    return {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "pixel_values": torch.cat([visual.patches for visual in batch.visuals[0]]),
        "image_grid_thw": torch.tensor([visual.grid for visual in batch.visuals[0]]),
        "mm_token_type_ids": (batch.input_ids == image).int(),
    }


def generated(loaded, prompt, images, never=(), length=10) -> list[int]:
    """What transformers' own generate says to one prompt, without what the model's settings add."""
    model, processor = loaded
    inputs = inputs_of(processor, prompt, images)
    settings = GenerationConfig(
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=length,
        suppress_tokens=list(never) or None,
        eos_token_id=processor.tokenizer.eos_token_id,
        pad_token_id=processor.tokenizer.pad_token_id,
    )
    return model.generate(**inputs, generation_config=settings)[0, inputs["input_ids"].shape[1] :].tolist()


def never_sampled(processor) -> list[int]:
    tokenizer = processor.tokenizer
    return sorted(set(tokenizer.all_special_ids) - {tokenizer.eos_token_id}) + list(
        range(len(tokenizer), len(tokenizer) + 3)
    )


def test_greedy_answers_of_a_batch_are_those_of_generate_one_by_one(loaded):
    tokenizer = loaded[1].tokenizer
    expected = [
        tokenizer.decode(generated(loaded, *each, never_sampled(loaded[1])), skip_special_tokens=True)
        for each in zip(QUESTIONS, example_images(), strict=True)
    ]
    assert ask(loaded, QUESTIONS, example_images()) == [[text] for text in expected]
    assert len(set(expected)) == len(QUESTIONS) and all(expected)


def test_neither_batch_size_nor_neighbours_nor_order_change_an_answer(loaded):
    prompts, images = QUESTIONS * 3, [[tiny.image(seed, 20 + 4 * seed, 33)] for seed in range(9)]
    together = ask(loaded, prompts, images)
    assert len({text for (text,) in together}) > 5
    alone = [ask(loaded, [prompt], [each])[0] for prompt, each in zip(prompts, images, strict=True)]
    assert together == alone == ask(loaded, prompts[::-1], images[::-1])[::-1]


def test_a_sample_follows_from_its_seed_and_number_alone(loaded):
    drawn = ask(loaded, QUESTIONS, example_images(), 6, temperature=1.0, seeds=[7, 8, 9])
    assert all(len(set(texts)) > 3 for texts in drawn)
    alone = ask(loaded, QUESTIONS[1:2], example_images()[1:2], 3, temperature=1.0, seeds=[8])
    assert alone == [drawn[1][:3]]
    assert ask(loaded, QUESTIONS, example_images(), 6, temperature=1.0, seeds=[17, 18, 19]) != drawn


def test_a_low_temperature_says_what_greedy_says(loaded):
    greedy = ask(loaded, QUESTIONS, example_images())
    assert ask(loaded, QUESTIONS, example_images(), temperature=1e-3) == greedy


def test_samples_come_as_often_as_their_probability(loaded):
    model, processor = loaded
    texts = ask(loaded, QUESTIONS[:1], example_images(1), 3000, length=1, temperature=2.0)[0]
    with torch.no_grad():
        logits = model(**inputs_of(processor, QUESTIONS[0], example_images(1)[0])).logits[0, -1]
    logits[never_sampled(processor)] = -torch.inf
    shares = (logits / 2.0).softmax(-1)
    likeliest = shares.argmax().item()
    expected, found = shares[likeliest].item(), texts.count(processor.tokenizer.decode([likeliest])) / 3000
    assert found == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 3000) ** 0.5)


def test_the_image_changes_the_answer(loaded):
    first, second = (ask(loaded, QUESTIONS[:1], [[tiny.image(seed)]]) for seed in (1, 2))
    assert first != second
    both = ask(loaded, QUESTIONS[:1], [[tiny.image(1), tiny.image(2, 24, 24)]])
    swapped = ask(loaded, QUESTIONS[:1], [[tiny.image(2, 24, 24), tiny.image(1)]])
    assert both != swapped and both != first


def test_special_tokens_are_never_sampled(loaded):
    """Left to itself the model says them."""
    never = set(never_sampled(loaded[1]))
    free = [generated(loaded, QUESTIONS[0], [tiny.image(seed)], length=24) for seed in range(4)]
    assert any(never & set(ids) for ids in free)
    texts = ask(loaded, QUESTIONS[:1], [[tiny.image(0)]], 50, length=24, temperature=3.0)[0]
    assert not any("<|" in text for text in texts) and len(set(texts)) > 40


def test_an_answer_ends_with_the_end_token(copied):
    model, processor = load(copied)
    with torch.no_grad():
        model.lm_head.weight.zero_()  # all tokens alike, so the end comes early or late
    texts = ask((model, processor), QUESTIONS, example_images(), 40, length=40, temperature=1.0)
    lengths = [len(text.split()) for each in texts for text in each]
    assert min(lengths) < 10 and max(lengths) == 40 and sum(length < 40 for length in lengths) > 30


# ---- inputs


def test_an_image_is_scaled_to_the_pixels_allowed(loaded):
    _, processor = loaded
    for size in ((8, 8), (40, 30), (900, 500)):
        batch = rollout.encode(processor, QUESTIONS[:1], [[tiny.image(0, *size)]])
        pixels = len(batch.visuals[0][0].patches) * 16
        assert 64 <= pixels <= 1024
        tokens = (batch.input_ids == processor.tokenizer.convert_tokens_to_ids(qwen.IMAGE)).sum()
        assert tokens == pixels / 64  # patches of 4 x 4, four a token


def test_a_prompt_is_a_turn_of_the_user(loaded):
    _, processor = loaded
    batch = rollout.encode(processor, QUESTIONS[:2], [[tiny.image(0, 16, 16)], [tiny.image(1, 8, 8)] * 2])
    long, short = (
        processor.tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    )
    assert "how many red cubes are there ?" in long and long.count("<|image_pad|>") == 4
    assert short.count("<|image_pad|>") == 2 and short.count("<|vision_start|>") == 2
    assert all(text.startswith("<|im_start|>") and text.count("<|im_start|>") == 2 for text in (long, short))
    assert batch.attention_mask[1, 0] == 0 and batch.attention_mask[:, -1].all()  # padded on the left


class Published(Qwen2_5_VLProcessor):
    """transformers' own processor, which asks for a video processor, and that for torchvision."""

    def check_argument_for_proper_class(self, argument_name, argument):
        pass


def test_inputs_are_those_of_the_published_processor(loaded):
    _, ours = loaded
    images = [[tiny.image(1, 50, 30)], [tiny.image(2, 20, 20), tiny.image(3, 70, 40)], [tiny.image(4)]]
    turns = [
        [{"role": "user", "content": [{"type": "image"}] * len(each) + [{"type": "text", "text": prompt}]}]
        for prompt, each in zip(QUESTIONS, images, strict=True)
    ]
    theirs = Published(ours.image_processor, ours.tokenizer, None, chat_template=ours.chat_template)
    texts = theirs.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    flat = [image for each in images for image in each]
    expected = theirs(text=texts, images=flat, padding=True, padding_side="left", return_tensors="pt")
    found = rollout.encode(ours, QUESTIONS, images)
    assert torch.equal(found.input_ids, expected["input_ids"])
    assert torch.equal(found.attention_mask, expected["attention_mask"])
    visuals = [visual for each in found.visuals for visual in each]
    assert torch.equal(torch.cat([visual.patches for visual in visuals]), expected["pixel_values"])
    assert [[*visual.grid] for visual in visuals] == expected["image_grid_thw"].tolist()


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|im_end|>"])
def test_a_prompt_with_a_special_token_is_refused(loaded, token):
    with pytest.raises(UserError, match="keeps for itself"):
        rollout.encode(loaded[1], [f"how many {token} ?"], [[tiny.image(0)]])


def test_images_that_do_not_fit_the_prompts(loaded, tmp_path):
    for prompts, images in ((QUESTIONS, example_images(2)), (QUESTIONS[:1], [[]]), ([], [])):
        with pytest.raises(ValueError, match="each prompt needs one or more"):
            rollout.encode(loaded[1], prompts, images)
    with pytest.raises(UserError, match="gone.png does not exist"):
        rollout.encode(loaded[1], QUESTIONS[:1], [[tmp_path / "gone.png"]])


# ---- loading


def test_what_is_loaded(loaded, folder, capsys):
    model, processor = load(folder)
    assert capsys.readouterr().out.startswith("profile: embedded")
    assert not model.training and model.dtype == torch.float32
    assert model.config._attn_implementation == "sdpa"
    assert isinstance(processor, qwen.ChatProcessor)


def test_an_adapter_is_put_on(folder, loaded, tmp_path):

    config = peft.LoraConfig(
        target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    peft.get_peft_model(load(folder)[0], config).save_pretrained(
        tmp_path / "adapter", save_embedding_layers=False
    )
    adapted = load(folder, adapter=str(tmp_path / "adapter"))
    assert ask(adapted, QUESTIONS, example_images()) != ask(loaded, QUESTIONS, example_images())
    with pytest.raises(UserError, match="--adapter .*no adapter_config.json"):
        load(folder, adapter=str(tmp_path))


def test_a_template_in_a_file_of_its_own(copied, loaded):
    """Where Qwen's older repositories keep it."""
    (copied / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template"):
        load(copied)
    (copied / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    assert ask(load(copied), QUESTIONS[:1], example_images(1)) == ask(
        loaded, QUESTIONS[:1], example_images(1)
    )


def test_weights_that_are_damaged_or_not_finite(copied):
    weights = copied / "model.safetensors"
    model, processor = load(copied)
    with torch.no_grad():
        model.lm_head.weight[3] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        ask((model, processor), QUESTIONS, example_images())
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="--model .*damaged"):
        load(copied)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"model": "nowhere/at/all"}, "no such folder"),
        ({"dtype": "float16"}, "--dtype float16 is for GPUs"),
        ({"load_in_4bit": True}, "needs a CUDA device"),
        ({"shard_base": True}, "--shard_base"),
    ],
)
def test_flags_that_cannot_be(folder, changed, message):
    with pytest.raises(UserError, match=message):
        loading.load(ModelArgs(**{"profile": "embedded", "model": str(folder)} | changed))


def test_a_model_of_another_type_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match="of type 'llama', not a PaliGemma, Qwen2-VL or Qwen2.5-VL"):
        loading.load(ModelArgs(model=str(tmp_path)))


def test_the_embedded_model_is_loaded_as_ever():
    model, processor = loading.load(ModelArgs(profile="embedded"))
    assert model.config.model_type == "paligemma" and not isinstance(processor, qwen.ChatProcessor)
