"""float16: values beyond its range change nothing, and the model computes what it computes in float32."""

import copy

import overflowing
import pytest
import tiny
import tiny_chat
import torch

from spatialvlm import devices
from spatialvlm.errors import UserError
from spatialvlm.evaluation.evaluate import predict
from spatialvlm.example import Example
from spatialvlm.models import loading, precision, rollout
from spatialvlm.tasks.cvbench import data as cvbench

QUESTIONS = 6
EPS = torch.finfo(torch.float16).eps
HOLDS = dict(stream=1.0, products=1.0, gated=1.0)  # factors of values that float16 holds


def tolerance(largest_logit, layers):
    """Of one log-probability: some ten roundings a layer add up like steps of a random walk."""
    return largest_logit * EPS * (10 * layers) ** 0.5


def logps(model, batch, completions):
    with torch.no_grad():
        return rollout.per_token_logps(model, batch, completions)


@pytest.fixture(scope="module")
def embedded():
    """(model in float32, batch of questions, their sampled completions with log-probabilities)."""
    model, processor = loading.load(loading.ModelArgs(profile="embedded", dtype="float32"))
    examples = cvbench.load("embedded", split="test", limit=QUESTIONS)
    prompts, images = [each.prompt for each in examples], [each.images for each in examples]
    batch = rollout.encode(processor, prompts, images)
    completions = rollout.sample(model, batch, 4, 8, seeds=list(range(QUESTIONS)))
    return model, batch, completions, logps(model, batch, completions)


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl"])
def qwen(request, tmp_path_factory):
    """As `embedded`, of a random Qwen; most weights are a third of what they were made."""
    folder = tiny_chat.save_model(tmp_path_factory.mktemp(request.param), request.param)
    model, processor = tiny_chat.load(folder)
    for name, parameter in model.named_parameters():
        smaller = parameter.dim() > 1 and not any(part in name for part in ("gate_proj", "up_proj", "qkv"))
        parameter.data = (parameter / 3 if smaller else parameter).half().float()
    prompts = ["how many red cubes are there ?", "is it green or blue"]
    batch = rollout.encode(processor, prompts, [(tiny.image(0),), (tiny.image(1), tiny.image(2, 30, 50))])
    completions = rollout.sample(model, batch, 4, 6, seeds=[0, 1])
    return model, batch, completions, logps(model, batch, completions)


def in_float16(model, **scaled):
    """A float16 copy of the model, its values scaled beyond float16's range."""
    model = copy.deepcopy(model)
    scale = overflowing.paligemma if "products" in scaled else overflowing.qwen
    scale(model, **scaled)
    return overflowing.half(model)


# ---- values beyond the range


@pytest.mark.parametrize("beyond", [dict(stream=2.0**15), dict(products=2.0**13), dict(gated=2.0**12)])
def test_plain_float16_cannot_hold_these_values(embedded, beyond):
    model, batch, completions, _ = embedded
    assert not logps(in_float16(model, **(HOLDS | beyond)), batch, completions).isfinite().all()


def test_values_beyond_the_range_change_no_score_of_a_paligemma(embedded):
    model, batch, completions, wanted = embedded
    model = in_float16(model, stream=2.0**15, products=2.0**13, gated=2.0**12)
    precision.float32_stream(model)
    off = (logps(model, batch, completions) - wanted)[completions.mask].abs()
    assert off.mean() < 1e-3 and off.max() < tolerance(30, layers=10)


def test_values_beyond_the_range_change_no_score_of_a_qwen(qwen):
    model, batch, completions, wanted = qwen
    for beyond in (dict(stream=2.0**16, gated=1.0), dict(stream=1.0, gated=2.0**12)):
        assert not logps(in_float16(model, **beyond), batch, completions).isfinite().all()
    model = in_float16(model, stream=2.0**16, gated=2.0**12)
    precision.float32_stream(model)
    off = (logps(model, batch, completions) - wanted)[completions.mask].abs()
    assert off.mean() < 1e-3 and off.max() < tolerance(10, layers=4)


# ---- values within the range


def test_other_dtypes_stay_as_they_are(tiny_paligemma):
    model = copy.deepcopy(tiny_paligemma[0])
    for dtype in (torch.float32, torch.bfloat16):
        precision.float32_stream(model.to(dtype))
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_float16_model_scores_samples_and_answers_as_in_float32(embedded):
    model, batch, completions, wanted = embedded
    small = in_float16(model, **HOLDS)
    precision.float32_stream(small)
    off = (logps(small, batch, completions) - wanted)[completions.mask].abs()
    assert off.mean() < 1e-3 and off.max() < tolerance(30, layers=10)
    sampled = rollout.sample(small, batch, 4, 4, seeds=list(range(QUESTIONS)))
    off = (sampled.logps - logps(small, batch, sampled))[sampled.mask].abs()
    assert off.mean() < 1e-3 and off.max() < tolerance(30, layers=10)
    answers, wanted = (rollout.sample(each, batch, 1, 8, temperature=0).tokens for each in (small, model))
    assert torch.equal(answers, wanted)


def test_loading_prepares_a_float16_model(embedded, monkeypatch):
    """On a CPU --dtype float16 is refused, so the answer to which dtype it is comes from here."""
    model, batch, completions, wanted = embedded
    monkeypatch.setattr(loading, "resolve_dtype", lambda name, device: torch.float16)
    small, _ = loading.load(loading.ModelArgs(profile="embedded"))
    assert small.dtype == torch.float16
    cache = rollout.prefill(small, batch)[1]
    assert cache.layers[0].keys.dtype == cache.layers[0].values.dtype == torch.float16
    overflowing.paligemma(small, stream=2.0**15, products=1.0, gated=1.0)
    off = (logps(small, batch, completions) - wanted)[completions.mask].abs()
    assert off.mean() < 1e-3


def test_four_bits_hold_values_beyond_the_range(embedded, monkeypatch):
    """The stream alone is scaled: of what is written into it, post-norms are in float32 anyway."""
    pytest.importorskip("bitsandbytes")
    _, batch, completions, _ = embedded
    monkeypatch.setattr(devices, "takes_four_bits", lambda device: True)

    def load(dtype):
        monkeypatch.setattr(loading, "resolve_dtype", lambda name, device: dtype)
        model, _ = loading.load(loading.ModelArgs(profile="embedded", load_in_4bit=True))
        for module in model.modules():  # off: a CPU's shortcut, which rounds to bfloat16
            module.support_avx512bf16_for_cpu = False
        return model

    small = load(torch.float16)
    overflowing.paligemma(small, **(HOLDS | dict(stream=2.0**15)))
    off = (logps(small, batch, completions) - logps(load(torch.float32), batch, completions))[
        completions.mask
    ]
    assert off.abs().mean() < 1e-3 and off.abs().max() < tolerance(30, layers=10)


# ---- values that leave the range all the same


def beyond(model, layers, size):
    """Large random weights in layers of the model."""
    for name in layers:
        torch.nn.init.normal_(model.get_submodule(name).weight, 0, size)


ATTENTION = "model.vision_tower.encoder.layers.1.self_attn"
DOWN = "model.language_model.layers.1.mlp.down_proj"


@pytest.mark.parametrize(
    "layers, size, named",
    [
        ([DOWN], 3e4, DOWN),
        ([f"{ATTENTION}.v_proj"], 3e4, f"{ATTENTION}.v_proj"),
        ([f"{ATTENTION}.q_proj", f"{ATTENTION}.k_proj"], 300, ATTENTION),  # between layers: their product
    ],
)
def test_sampling_names_the_layer_that_left_the_range(tiny_paligemma, layers, size, named):
    model, processor = copy.deepcopy(tiny_paligemma)
    precision.float32_stream(model.half())
    batch = rollout.encode(processor, ["how many red cubes are there"], [(tiny.image(0),)])
    rollout.sample(model, batch, 2, 3)
    beyond(model, layers, size)
    with pytest.raises(
        UserError, match=rf"logits are not finite \({named} gave (inf|nan)\): .*--dtype float32"
    ):
        rollout.sample(model, batch, 2, 3)


def test_sampling_names_a_layer_that_leaves_the_range_behind_the_prompt(tiny_paligemma):
    """Only the embedding of the word that is sampled is not finite."""
    model, processor = copy.deepcopy(tiny_paligemma)
    batch = rollout.encode(processor, ["how many red cubes are there"], [(tiny.image(0),)])
    token = rollout.sample(model, batch, 1, 3, temperature=0).tokens[0, 0, 0]
    model.lm_head.weight = torch.nn.Parameter(
        model.lm_head.weight.detach().clone()
    )  # no longer the embedding
    model.get_input_embeddings().weight.data[token] = torch.inf
    with pytest.raises(UserError, match=r"not finite \(model.language_model.embed_tokens gave inf\): "):
        rollout.sample(model, batch, 1, 3, temperature=0)


def test_an_evaluation_names_the_layer_that_left_the_range(tiny_paligemma):
    model, processor = copy.deepcopy(tiny_paligemma)
    precision.float32_stream(model.half())
    beyond(model, [DOWN], 3e4)
    question = Example("1", (tiny.image(0),), "is it red ?", "(A)", "colour", ("red", "blue"))
    with pytest.raises(UserError, match=rf"logits are not finite \({DOWN} gave (inf|nan)\): "):
        predict(model, processor, [question])


def test_on_a_gpu_the_advice_fits_16_gb():
    class OnGPU(torch.nn.Identity):
        dtype, device = torch.float16, torch.device("cuda")

    error = precision.not_finite(
        "the loss is not finite", OnGPU(), lambda: None, "use a lower --learning_rate"
    )
    assert str(error) == (
        "the loss is not finite: use a lower --learning_rate, or --dtype float32 (a 3B model in 16 GB: with "
        "--load_in_4bit, or small batches and, in training, --gradient_checkpointing)"
    )
