"""One model split among processes: each keeps a part of the decoder layers' frozen weights (FSDP2).

A layer is gathered from all processes when it runs, and released after. So all must run the same layers
equally often; but in sampling each process may run a different number of passes (lengths, rounds, an empty
shard at the end). `in_step` evens that out: before each pass a process tells the others, and one that has no
work left runs a pass over one token with them, until none has any.

Adapters, embeddings and the vision tower stay whole on every process, so training, checkpoints and adapters
are what they are without sharding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import reduce
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from spatialvlm import distributed


def shard(model) -> None:
    """Shard a PaliGemma's decoder layers across processes, in place, and freeze the model.

    To be called on the whole model, before an adapter is put on it.
    """
    state = distributed.state()
    mesh = init_device_mesh(state.device.type, (state.num_processes,))
    model.requires_grad_(False)
    for layer in _decoder(model).layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)


def is_sharded(model) -> bool:
    several = distributed.state().num_processes > 1
    return several and any(isinstance(module, FSDPModule) for module in model.modules())


@contextmanager
def in_step(model, backward: bool = False) -> Iterator[None]:
    """Around passes of the model of which each process makes as many as it likes; does nothing unsharded.

    Args:
        backward: each pass is followed by its backward pass, before the next one.
    """
    if not is_sharded(model):
        yield
        return
    decoder = _decoder(model)

    def tell(*_: object) -> None:
        _anybody(model, working=True)

    telling = decoder.register_forward_pre_hook(tell)
    try:
        yield
    finally:  # also after an error: the others may still be running theirs
        telling.remove()
        while _anybody(model, working=False):
            _idle_pass(model, backward)


def _anybody(model, working: bool) -> bool:
    """Whether any process is about to run the model; all of them ask at the same time."""
    return bool(reduce(torch.tensor(float(working), device=model.device), "sum") > 0)


def _idle_pass(model, backward: bool) -> None:
    decoder = _decoder(model)
    size, dtype = decoder.config.hidden_size, decoder.embed_tokens.weight.dtype
    token = torch.zeros(1, 1, size, dtype=dtype, device=model.device, requires_grad=backward)
    with torch.set_grad_enabled(backward):
        hidden = decoder(inputs_embeds=token, use_cache=False).last_hidden_state
    if backward:
        (hidden.sum() * 0).backward()


def _decoder(model):
    """The language model's stack of layers, inside whatever wraps it."""
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    return core.model.language_model
