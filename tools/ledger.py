"""Counting the bytes that a model's computation holds, part by part, on tensors without content.

with Ledger(vocabulary_size) as ledger: ...      # ledger.peaks: the parts at each phase's highest moment

Storages are counted from the operation that makes them until nothing holds them any more: in Python, in the
autograd graph, or in a cache. So what is counted is what the code under the ledger does, whatever it is.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

PARTS = (
    "weights",
    "adapters",
    "gradients",
    "optimizer states",
    "image features",
    "KV cache",
    "attention",
    "feed-forward",
    "LoRA branches",
    "norms and residuals",
    "logits",
    "vision tower",
    "backward",
    "other",
)
aten = torch.ops.aten


class Ledger(TorchDispatchMode):
    """Bytes of all storages alive, by part, and the parts at the highest moment of each phase.

    Under it, meta tensors mix with real ones (token ids, masks: small, and what is computed of them is true).
    What depends on content that is not there (are the logits finite, does a completion go on) is answered
    yes.
    """

    def __init__(self, vocabulary_size: int):
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.alive: Counter[str] = Counter()
        self.total = 0
        self.peaks: dict[str, dict[str, int]] = {}
        self.outside = "other"  # the part of what is made outside of all modules
        self._modules: list[str] = []  # parts of the modules at work, the innermost last
        self._storages: dict[int, tuple[weakref.ref, int, str]] = {}  # id -> itself, bytes, part
        self._results: dict[tuple, tuple] = {}  # operation and its arguments' forms -> its result's form
        self.begin("")

    def begin(self, phase: str) -> None:
        """From here on, peaks are `phase`'s; one that was begun before goes on."""
        self.phase = phase
        self._highest = sum(self.peaks.get(phase, {}).values())
        self._look()

    def add(self, tensor: Tensor, part: str) -> None:
        """Counts the tensor's storage until it is freed; one that is counted already stays what it is."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key not in self._storages:
            self._storages[key] = (weakref.ref(storage, lambda _: self._remove(key)), size, part)
            self.alive[part] += size
            self.total += size
            self._look()

    def label(self, tensor: Tensor, part: str) -> None:
        """Moves a storage to another part."""
        key = id(tensor.untyped_storage())
        reference, size, old = self._storages[key]
        self._storages[key] = (reference, size, part)
        self.alive[old] -= size
        self.alive[part] += size

    def watch(self, model: torch.nn.Module) -> None:
        """Counts a PeftModel's weights, and learns from now on which part of it is at work."""
        for parameter in model.parameters():
            self.add(parameter, "adapters" if parameter.requires_grad else "weights")
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda p: self.label(p.grad, "gradients"))
        for buffer in model.buffers():
            self.add(buffer, "weights")
        for name, module in model.named_modules():
            if part := _part_of(name, module):
                module.register_forward_pre_hook(lambda *_, part=part: self._modules.append(part))
                module.register_forward_hook(self._leave, with_kwargs=True, always_call=True)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = _leaves([*args, *kwargs.values()])
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if not any(tensor.is_meta for tensor in tensors):
            out = func(*args, **kwargs)
        elif func is aten._local_scalar_dense.default:
            return True
        else:
            if not all(tensor.is_meta for tensor in tensors):
                args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
            out = self._without_content(func, leaves, args, kwargs)
        for made in _leaves([out]):
            if isinstance(made, Tensor):
                self.add(made, self._part(made))
        if func is aten.logsumexp.default:  # makes exp(x - max) inside, as large as x
            self._look(tensors[0].nbytes, self._part(tensors[0]))
        return out

    def _without_content(self, func, leaves: list, args, kwargs):
        """`func(*args, **kwargs)`; if it came with the same shapes before, only its result is made again.

        Layers are alike, and torch takes long to find out what shape a result on meta has.
        """
        call = (func, *(_key(leaf) for leaf in leaves))
        if (form := self._results.get(call)) is not None:
            return torch.empty_strided(*form[:2], dtype=form[2], device="meta")
        out = func(*args, **kwargs)
        if isinstance(out, Tensor):
            storage = out.untyped_storage()
            if not any(isinstance(x, Tensor) and x.untyped_storage() is storage for x in leaves):
                self._results[call] = (out.shape, out.stride(), out.dtype)
        return out

    def _remove(self, key: int) -> None:
        _, size, part = self._storages.pop(key)
        self.alive[part] -= size
        self.total -= size

    def _look(self, more: int = 0, part: str = "other") -> None:
        """Takes note if this is the highest moment, with `more` bytes of `part` that no tensor shows."""
        if self.total + more > self._highest:
            self._highest = self.total + more
            self.peaks[self.phase] = dict(self.alive) | {part: self.alive[part] + more}

    def _part(self, tensor: Tensor) -> str:
        if tensor.is_floating_point() and tensor.shape[-1:] == (self.vocabulary_size,):
            return "logits"
        return self._modules[-1] if self._modules else self.outside

    def _leave(self, module, args, kwargs: dict[str, Any], output) -> None:
        """A module is done: its result is its parent's, and the keys and values it put by are the cache's."""
        part = self._modules.pop()
        if part == "LoRA branches" and isinstance(output, Tensor) and self._modules:
            self.label(output, self._modules[-1])
        if part == "attention" and kwargs.get("past_key_values") is not None:
            cached = kwargs["past_key_values"].layers[module.layer_idx]
            self.label(cached.keys, "KV cache")
            self.label(cached.values, "KV cache")


def _leaves(values: Iterable) -> list:
    """What operations take and give, out of its lists; torch's own way takes most of a plan's time."""
    leaves = []
    for value in values:
        if isinstance(value, list | tuple):
            leaves += _leaves(value)
        else:
            leaves.append(value)
    return leaves


def _key(leaf) -> tuple:
    return (leaf.shape, leaf.stride(), leaf.dtype) if isinstance(leaf, Tensor) else (type(leaf), leaf)


def _part_of(name: str, module: torch.nn.Module) -> str | None:
    """The part that a module's results belong to, by its name; None = its parent's."""
    parent, _, last = name.rpartition(".")
    if last in ("vision_tower", "multi_modal_projector", "visual"):
        return "vision tower"
    if "vision_tower" in name or ".visual." in name:
        return None
    if isinstance(module, BaseTunerLayer):
        return "LoRA branches"
    if last == "self_attn" or (last == "base_layer" and ".self_attn." in parent):
        return "attention"
    if last == "mlp" or (last == "base_layer" and ".mlp." in parent):
        return "feed-forward"
    return "norms and residuals" if last.endswith("layernorm") or last.isdigit() else None


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Has done on meta tensors what a GPU does in one kernel and the CPU in several (torch 2.11 to 2.13).

    Functions are exchanged, because torch's modes are off where checkpointed layers run again: in backward.
    """
    softmax, dropout = functional.softmax, functional.dropout

    def fused_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None, **options) -> Tensor:
        """Without a float32 copy of what goes in."""
        if (x.dtype, dtype) == (torch.float16, torch.float32):
            return torch._softmax(x, dim, True)
        return softmax(x, dim, dtype=dtype, **options)

    def fused_dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """Its mask has a byte an element, where the CPU keeps one in x's dtype."""
        return torch.native_dropout(x, p, True)[0] if training and p else x

    functional.softmax, functional.dropout = fused_softmax, fused_dropout
    try:
        yield
    finally:
        functional.softmax, functional.dropout = softmax, dropout


@contextmanager
def fused_attention() -> Iterator[None]:
    """Has attention done as fused kernels do it, which the CPU, a T4 and a V100 have: scores are not kept."""
    attention = functional.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any) -> Tensor:
        """As attention; a mask's rows are brought to a multiple of 16 bytes."""
        if attn_mask is not None and attn_mask.shape[-1] % 8:
            attn_mask = functional.pad(attn_mask, (0, -attn_mask.shape[-1] % 8))
        if not torch.is_grad_enabled():
            return _attended(query, value)
        return _FusedAttention.apply(query, key, value, attn_mask)

    functional.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = attention


def _attended(query: Tensor, value: Tensor) -> Tensor:
    return query.new_empty(*query.shape[:-1], value.shape[-1])


class _FusedAttention(torch.autograd.Function):
    """The memory of a fused attention kernel: for backward it keeps what went in, what came out and a sum."""

    @staticmethod
    def forward(context, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        out = _attended(query, value)
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        context.save_for_backward(query, key, value, mask, out, sums)
        return out

    @staticmethod
    def backward(context, grad: Tensor):
        query, key, value, *_ = context.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None
