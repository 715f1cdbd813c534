"""Log-probabilities while sampling, packed, and one row at a time are one number; so are their gradients.

The reference is `alone`: a completion by itself through the model's own forward, without padding, packing,
cache or mask of ours. Token types and positions are the model's own (0 for the prompt, 1 for the completion).
"""

from dataclasses import replace

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model

from spatialvlm.errors import UserError
from spatialvlm.models import rollout

PROMPTS = [
    "how many red cubes are there?",
    "what is left of the blue sphere behind the green cube in front of the red cube?",
    "yes or no?",
]
IMAGES = [[tiny.image(0)], [tiny.image(1), tiny.image(2)], [tiny.image(3)]]  # 1 and 2 images, mixed
G, T = 3, 5


@pytest.fixture(scope="module")
def lora():
    """(model, processor) with adapters that are not zero, in language model and vision tower."""
    model, processor = tiny.paligemma()
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj", "fc1"])
    torch.manual_seed(1)
    model = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    return model.eval(), processor


@pytest.fixture
def batch(tiny_paligemma):
    return rollout.encode(tiny_paligemma[1], PROMPTS, IMAGES)


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


def alone(model, batch, completions, row, number):
    """Log-probabilities (length,) of one completion, by the model's own forward on exactly its tokens."""
    one = batch.select([row])
    tokens = completions.tokens[row, number][completions.mask[row, number]][None]
    types = torch.cat([torch.zeros_like(one.input_ids), torch.ones_like(tokens)], 1)
    ids = torch.cat([one.input_ids, tokens], 1)
    logits = model(
        input_ids=ids,
        pixel_values=one.pixel_values,
        token_type_ids=types,
        attention_mask=torch.ones_like(ids),
    ).logits
    logits = logits[0, one.input_ids.shape[1] - 1 : -1, : len(batch.vocabulary.allowed)]
    logits = logits.masked_fill(~batch.vocabulary.allowed, -torch.inf)
    return logits.log_softmax(-1).gather(1, tokens[0][:, None])[:, 0]


def gradients(model, logps):
    """Gradients of a weighted sum of `logps` as one vector."""
    weights = torch.randn(logps.shape, generator=torch.Generator().manual_seed(0))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    grads = torch.autograd.grad((logps * weights).sum(), parameters, allow_unused=True)
    return torch.cat([grad.flatten() for grad in grads if grad is not None])


def test_sampled_equals_packed_equals_plain_equals_alone(tiny_paligemma, few_words):
    model, _ = tiny_paligemma
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
            for logps in (completions.logps, packed, plain):
                found = logps[row, number][completions.mask[row, number]]
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("adapter", [True, False])
def test_packed_equals_plain_with_lora(lora, few_words, adapter, checkpointing):
    model, _ = lora
    completions = sampled(model, few_words)
    with torch.no_grad(), model.disable_adapter():
        base = rollout.per_token_logps(model, few_words, completions)
        torch.testing.assert_close(
            rollout.per_token_logps_plain(model, few_words, completions), base, atol=1e-5, rtol=0
        )
        for row, number in ((0, 0), (1, 2)):
            found = base[row, number][completions.mask[row, number]]
            torch.testing.assert_close(
                found, alone(model, few_words, completions, row, number), atol=1e-5, rtol=0
            )
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
        expected, found = gradients(model, plain), gradients(model, packed)
        assert expected.norm() > 0
        assert (found - expected).norm() / expected.norm() < 1e-5
    finally:
        core.gradient_checkpointing_disable()
        model.eval()


def test_gradients_of_all_weights(tiny_paligemma, few_words):
    model, _ = tiny_paligemma
    completions = sampled(model, few_words)
    expected = gradients(model, rollout.per_token_logps_plain(model, few_words, completions))
    found = gradients(model, rollout.per_token_logps(model, few_words, completions))
    assert (found - expected).norm() / expected.norm() < 1e-5


def test_shared_features_change_nothing_and_carry_no_gradient_when_vision_is_frozen(few_words):
    model, _ = tiny.paligemma()
    completions = sampled(model, few_words)
    expected = rollout.per_token_logps(model, few_words, completions)
    assert rollout.image_features(model, few_words).requires_grad
    for part in (model.model.vision_tower, model.model.multi_modal_projector):
        part.requires_grad_(False)
    features = rollout.image_features(model, few_words)
    assert not features.requires_grad
    shared = replace(few_words, features=features)
    torch.testing.assert_close(rollout.per_token_logps(model, shared, completions), expected)
    assert torch.equal(sampled(model, shared).tokens, completions.tokens)
    selected = rollout.per_token_logps(model, shared.select([1, 2]), completions.select([1, 2]))
    torch.testing.assert_close(selected, expected[1:, :, : selected.shape[2]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("score", [rollout.per_token_logps, rollout.per_token_logps_plain])
def test_nobody_looks_ahead_or_aside(tiny_paligemma, batch, score):
    model, _ = tiny_paligemma
    completions = sampled(model, batch)
    everything = torch.ones_like(completions.mask)
    completions = rollout.Completions(completions.tokens.clamp(min=4), everything, completions.logps)
    before = score(model, batch, completions)
    tokens = completions.tokens.clone()
    tokens[:, 1, 3] = (tokens[:, 1, 3] - 4 + 7) % 40 + 4  # another word late in the middle completion
    after = score(model, batch, rollout.Completions(tokens, everything, completions.logps))
    torch.testing.assert_close(after[:, 1, :3], before[:, 1, :3], atol=1e-6, rtol=0)
    torch.testing.assert_close(after[:, [0, 2]], before[:, [0, 2]], atol=1e-6, rtol=0)
    assert (after[:, 1, 3:] - before[:, 1, 3:]).abs().min() > 1e-4


@pytest.mark.parametrize("score", [rollout.per_token_logps, rollout.per_token_logps_plain])
def test_swapping_images_matters(tiny_paligemma, batch, score):
    model, processor = tiny_paligemma
    completions = sampled(model, batch)
    swapped = rollout.encode(processor, PROMPTS, [IMAGES[2], IMAGES[1][::-1], IMAGES[0]])
    difference = (score(model, swapped, completions) - score(model, batch, completions)).abs()
    assert difference.amax((1, 2)).min() > 1e-3, difference  # the order of two images matters too


def test_greedy_equals_generate(tiny_paligemma, batch):
    model, processor = tiny_paligemma
    completions = rollout.sample(model, batch, 1, T, temperature=0)
    for row in range(len(PROMPTS)):
        one = batch.select([row])
        expected = model.generate(
            input_ids=one.input_ids,
            attention_mask=one.attention_mask,
            token_type_ids=torch.zeros_like(one.input_ids),
            pixel_values=one.pixel_values,
            do_sample=False,
            max_new_tokens=T,
            suppress_tokens=rollout.forbidden_tokens(processor),
        )[0, one.input_ids.shape[1] :]
        assert completions.tokens[row, 0][completions.mask[row, 0]].tolist() == expected.tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_batch_size_padding_and_group_size_change_nothing(tiny_paligemma, few_words, temperature):
    model, _ = tiny_paligemma
    together = sampled(model, few_words, temperature=temperature)
    for row in range(len(PROMPTS)):
        one = rollout.sample(
            model, few_words.select([row]), G + 1, T + 1, temperature=temperature, seeds=[row]
        )
        length = together.tokens.shape[2]
        for number in range(G):
            mask = together.mask[row, number]
            end = int(mask.sum())
            assert torch.equal(one.tokens[0, number, :end], together.tokens[row, number, :end])
            torch.testing.assert_close(
                one.logps[0, number, :end], together.logps[row, number, :end], atol=1e-5, rtol=0
            )
            assert end == length or not one.mask[0, number, end:].any()
    packed = rollout.per_token_logps(model, few_words, together, temperature)
    torch.testing.assert_close(packed, together.logps, atol=1e-5, rtol=0)


def test_a_seed_decides_and_another_decides_otherwise(tiny_paligemma, batch):
    model, _ = tiny_paligemma
    assert torch.equal(sampled(model, batch, 5).tokens, sampled(model, batch, 5).tokens)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(rollout.sample(model, batch, G, T).tokens)
    assert torch.equal(draws[0], draws[1])
    assert draws[0].shape != draws[2].shape or not torch.equal(draws[0], draws[2])


def test_sampling_follows_the_distribution(tiny_paligemma, batch):
    model, _ = tiny_paligemma
    one, draws = batch.select([2]), 4000
    first = rollout.sample(model, one, draws, 1, seeds=[3])
    counts = torch.bincount(first.tokens.flatten(), minlength=len(batch.vocabulary.allowed)).double()
    assert not counts[~batch.vocabulary.allowed].any()
    every = torch.arange(len(batch.vocabulary.allowed)).view(1, -1, 1)
    scored = rollout.Completions(every, torch.ones_like(every, dtype=torch.bool), torch.zeros(every.shape))
    expected = rollout.per_token_logps(model, one, scored).flatten().double().exp() * draws
    torch.testing.assert_close(expected.sum().item(), float(draws), rtol=1e-5, atol=0)
    z = (counts - expected) / expected.clamp(min=1).sqrt()
    assert z.abs().max() < 5


def test_sampling_is_without_dropout_and_leaves_modes_as_they_were(batch):
    model, _ = tiny.paligemma(attention_dropout=0.5)
    expected = sampled(model, batch)
    model.train()
    model.model.vision_tower.eval()
    before = [module.training for module in model.modules()]
    torch.testing.assert_close(sampled(model, batch).logps, expected.logps)
    assert [module.training for module in model.modules()] == before


def test_a_large_vocabulary_is_scored_in_pieces(tiny_paligemma, batch, monkeypatch):
    model, _ = tiny_paligemma
    completions = sampled(model, batch)
    whole = rollout.per_token_logps(model, batch, completions)
    monkeypatch.setattr(rollout, "_CHUNK", 2 * len(PROMPTS) * model.config.text_config.vocab_size)
    pieces = rollout.per_token_logps(model, batch, completions)
    torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(gradients(model, pieces), gradients(model, whole))


def test_ids_beyond_the_tokenizer_are_never_sampled():
    model, processor = tiny.paligemma(vocab_size=1280)
    batch = rollout.encode(processor, PROMPTS, IMAGES)
    completions = rollout.sample(model, batch, 200, 2, seeds=[0, 1, 2])
    assert completions.tokens.max() < len(processor.tokenizer)
    torch.testing.assert_close(
        rollout.per_token_logps(model, batch, completions), completions.logps, atol=1e-5, rtol=0
    )


def test_what_would_be_wrong_is_refused(tiny_paligemma, batch):
    model, _ = tiny_paligemma
    with pytest.raises(
        UserError,
        match="prompt with completion takes 4,1.. tokens, and the model has room for 4,096: use fewer",
    ):
        rollout.sample(model, batch, 1, 4096)
    with pytest.raises(ValueError, match="written for PaliGemma"):
        rollout.sample(model.model.language_model, batch, 1, 1)
    model.config.text_config._attn_implementation = "sdpa"
    try:
        with pytest.raises(ValueError, match="attn_implementation='eager'"):
            rollout.sample(model, batch, 1, 1)
    finally:
        model.config.text_config._attn_implementation = "eager"
