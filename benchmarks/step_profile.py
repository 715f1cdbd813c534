"""Where the time of our step goes, and the least that it could take.

The floor counts, at the matrix rate measured in the same run (before and after), the multiplications that the
algorithm needs and nothing else: the vision tower once for each image; then, in each of four passes
(sampling, reference, policy forward, and backward, which costs another forward because the weights are
frozen), every prompt once and every completion token that is fed once through the decoder, each looking at
what it may look at (of the last layer prompts need keys and values alone); the output layer for completion
tokens; and the adapter where it is on, with its gradients. Softmax, norms, drawing tokens, padding, Python
and all memory traffic count nothing, and small matrices are supposed to run at the rate of large ones. It is
within 1 % of what a perfect step would multiply: that the first layer's input needs no gradient is left out
of account.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from ways import Ours
from workload import Workload

from spatialvlm.models import rollout

VISION, PREFIX, TOKENS = "vision tower", "sampling: prompts", "sampling: token by token"
REFERENCE, POLICY, BACKWARD = "reference: forward", "policy: forward", "policy: backward"


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(model: torch.nn.Module, tries: int = 10) -> float:
    """FLOP/s of matrix products in the model's dtype on its device, the best of some tries.

    Of square matrices (8192 wide on CUDA, 1024 on CPU), and of as many rows through the model's own linear
    layers, which may be faster.
    """
    size = 8192 if model.device.type == "cuda" else 1024
    linear = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    shapes = {tuple(layer.weight.shape) for layer in linear if layer.weight.dtype == model.dtype}
    rates = []
    for out, width in {(size, size), *(shape for shape in shapes if max(shape) <= 2**14)}:
        left = torch.randn(size, width, device=model.device, dtype=model.dtype)
        right = torch.randn(out, width, device=model.device, dtype=model.dtype)
        for _ in range(tries):
            synchronize(model.device)
            start = time.perf_counter()
            torch.nn.functional.linear(left, right)
            synchronize(model.device)
            rates.append(2 * size * width * out / (time.perf_counter() - start))
    return max(rates)


def fractions(seconds: Mapping[str, float], flops: Mapping[str, float | None], rate: float) -> dict:
    """The fraction of the matrix rate that each method reaches; None where it was not counted.

    More than all of it means that the machine was slower while the rate was measured: then none is returned.
    """
    found = {name: flops[name] and flops[name] / seconds[name] / rate for name in seconds}
    return {} if any(fraction and fraction > 1 for fraction in found.values()) else found


def needed_flops(work: Workload, num_generations: int) -> dict[str, float]:
    """FLOPs that a step needs, by phase (see above for what counts)."""
    core = work.model.get_base_model()
    text, vision = core.config.get_text_config(), core.config.vision_config
    weights = _weights(core)
    lengths = work.encode().attention_mask.sum(1).double()  # (B,)
    prompts, prefix = len(lengths), lengths.sum().item()
    fed = prompts * num_generations * (work.completion_length - 1)  # the last token predicts nothing

    def decoder(prefix: float, fed: float, parts: tuple[str, ...]) -> float:
        """Prompts and completions, or one of them, through layers, attention and output layer."""
        ends = prompts if prefix else 0  # what goes on behind the last layer's keys and values
        linear = sum(2 * (prefix + fed) * weights[part] for part in parts)
        linear += sum(2 * (ends + fed) * weights[f"{part}, last"] for part in parts)
        return linear + attention(prefix, fed) + 2 * (ends + fed) * weights["head"]

    def attention(prefix: float, fed: float) -> float:
        each = 4 * text.num_attention_heads * text.head_dim  # a token looking at another, in one layer
        layers, own = text.num_hidden_layers, work.completion_length / 2  # of itself it sees half, on average
        to_prefix = ((layers - 1) * lengths**2 + lengths).sum().item() if prefix else 0
        return each * (to_prefix + layers * fed * (lengths.mean().item() + own))

    images = sum(len(example.images) for example in work.examples) * work.processor.image_seq_length
    seen = 4 * vision.num_hidden_layers * vision.hidden_size * work.processor.image_seq_length
    on, off = ("decoder", "adapter"), ("decoder",)
    policy = decoder(prefix, fed, on)
    return {
        VISION: images * (2 * weights["vision"] + seen),
        PREFIX: decoder(prefix, 0, on),
        TOKENS: decoder(0, fed, on),
        REFERENCE: decoder(prefix, fed, off),
        POLICY: policy,
        # Gradients of activations cost a forward (attention: two), those of the adapter one of its own.
        BACKWARD: 2 * policy + attention(prefix, fed) - decoder(prefix, fed, off),
    }


def _weights(core) -> Counter:
    """Weights that inputs are multiplied with: `vision` (with projector), `head`, and of the decoder's layers
    `decoder` and `adapter`; `..., last` are those behind the last layer's keys and values.
    """
    last = f"language_model.layers.{core.config.get_text_config().num_hidden_layers - 1}."
    weights = Counter()
    for name, module in core.named_modules():
        if not isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            continue
        part = "adapter" if "lora_" in name else "decoder" if "language_model" in name else "vision"
        part = "head" if name == "lm_head" else part
        if last in name and not ("k_proj" in name or "v_proj" in name):
            part += ", last"
        weights[part] += module.weight.numel()
    return weights


class Stopwatch:
    """Seconds by name. Where spans are nested, time counts for the innermost alone."""

    def __init__(self, device: torch.device):
        self.device, self.seconds = device, Counter()
        self._open, self._since = [], 0.0

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        self._mark()
        self._open.append(name)
        try:
            yield
        finally:
            self._mark()
            self._open.pop()

    def _mark(self) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def watch(self, owner: object, function: str, name: str | Callable[..., str]):
        """A context in which calls of `owner.function` are timed; the name may follow from the arguments."""
        original = getattr(owner, function)

        def timed(*args, **kwargs):
            with self.span(name if isinstance(name, str) else name(*args, **kwargs)):
                return original(*args, **kwargs)

        return patch.object(owner, function, timed)


def _pass_name(*_, past_key_values=None, inputs_embeds=None, **__) -> str:
    if past_key_values is not None:
        return TOKENS if inputs_embeds is None else PREFIX
    return POLICY if torch.is_grad_enabled() else REFERENCE


def profile(way: Ours, steps: int) -> dict[str, float]:
    """Mean seconds of a step, by phase.

    Watching makes a GPU finish each phase before the next begins, so there the sum is more than a step takes.
    """
    watch = Stopwatch(way.work.model.device)
    phases = [
        (rollout, "encode", "reading images and prompts"),
        (rollout, "image_features", VISION),
        (rollout, "sample", "sampling: drawing, masks, cache"),
        (rollout, "per_token_logps", "scoring: masks, log-probabilities"),
        (way.work.model.get_base_model(), "forward", _pass_name),
        (torch.Tensor, "backward", BACKWARD),
        (torch.nn.utils, "clip_grad_norm_", "clipping and optimizer"),
        (way.optimizer, "step", "clipping and optimizer"),
    ]
    with ExitStack() as stack:
        for phase in phases:
            stack.enter_context(watch.watch(*phase))
        for _ in range(steps):
            with watch.span("all else"):
                way.step()
    return {name: seconds / steps for name, seconds in watch.seconds.most_common()}
