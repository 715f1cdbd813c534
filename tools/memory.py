"""What training holds in memory, by part and by phase; without weights, data or a GPU.

python -m tools.memory                                     # GRPO v2 of PaliGemma 2 3B, float16, on a GPU
python -m tools.memory --num_generations 14 --gradient_checkpointing
python -m tools.memory --config runs/pali_sat_sft.yaml --json
python -m tools.memory --profile embedded                  # the small model, float32, on the CPU

Takes the training scripts' flags and files. The step itself runs (`rollout.sample`, `per_token_logps`,
backward, AdamW) on tensors that have a shape and no content (torch's meta device), while a ledger counts the
bytes of every storage alive. Every completion is as long as it may be. Left out: the CUDA context, what the
allocator holds in reserve or loses between its blocks, and the workspaces of matrix libraries.
"""

from __future__ import annotations

import json
import math
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from ledger import PARTS, Ledger, as_on_cuda
from torch import Tensor
from torch.nn import functional
from transformers import PaliGemmaConfig

from spatialvlm import cli
from spatialvlm.errors import UserError, require_above_zero
from spatialvlm.evaluation import evaluate
from spatialvlm.models import loading, rollout, shapes
from spatialvlm.models.inputs import Batch, Completions, Vocabulary
from spatialvlm.papers.sat import ExperimentArgs
from spatialvlm.training import grpo, loop, sft

CUDA_CONTEXT = int(0.6 * 2**30)  # bytes that a process takes on a GPU before its first tensor, about


@dataclass
class Args(ExperimentArgs, grpo.GRPOArgs):
    """What a run takes, and what a plan assumes besides."""

    profile: Literal["auto", "embedded", "paper"] = field(
        default="auto", metadata={"help": "embedded = the small model, on CPU; else the published, on GPU"}
    )
    model: str | None = field(
        default=None, metadata={"help": "folder with a PaliGemma's config.json; by profile where not given"}
    )
    per_device_batch_size: int | None = field(
        default=None, metadata={"help": "rows of a forward pass of SFT; where it is given, SFT is planned"}
    )
    device: Literal["auto", "cuda", "cpu"] = field(
        default="auto", metadata={"help": "they differ in some intermediate results; by profile"}
    )
    text_tokens: int = field(default=80, metadata={"help": "tokens of a prompt besides the image's"})
    card_gib: float = field(
        default=14.56, metadata={"help": "memory of the GPU: 14.56 is a T4's, 15.77 a V100's of 16 GB"}
    )
    json: bool = field(default=False, metadata={"help": "print JSON instead of a table"})

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda" or (self.device == "auto" and self.profile != "embedded")

    def check(self) -> None:
        """Raises UserError naming the first argument that makes no sense."""
        super().check()
        if self.per_device_batch_size is not None:
            require_above_zero(per_device_batch_size=self.per_device_batch_size)
        require_above_zero(text_tokens=self.text_tokens, card_gib=self.card_gib)
        if self.load_in_4bit and not self.on_gpu:
            raise UserError("--load_in_4bit needs a CUDA device; plan for one with --device cuda")


@dataclass(frozen=True)
class Plan:
    """Bytes of each part at each phase's highest moment, and what the forward pass leaves for backward."""

    title: str
    phases: dict[str, dict[str, int]]
    kept_for_backward: int

    @property
    def totals(self) -> dict[str, int]:
        return {phase: sum(parts.values()) for phase, parts in self.phases.items()}

    def highest(self, besides: str = "") -> tuple[str, int]:
        """The highest phase, one left out, and its bytes."""
        totals = {phase: total for phase, total in self.totals.items() if phase != besides}
        return max(totals.items(), key=lambda item: item[1])


def plan(args: Args, config: PaliGemmaConfig | None = None) -> Plan:
    """What one process holds while it trains, after its first steps.

    `config` is the model's shape; by `args` where it is None.

    Raises:
        UserError: arguments that make no sense, a folder without a model's configuration, prompt and
            completion longer than the model's window.
    """
    args.check()
    config = config or _shape(args)
    name = args.dtype if args.dtype != "auto" else "float16" if args.on_gpu else "float32"
    dtype = getattr(torch, name)
    with torch.device("meta"), redirect_stdout(sys.stderr):
        model = loop.add_adapter(shapes.random_model(config, dtype, "meta"), args)
    ledger = Ledger(config.get_text_config().vocab_size)
    ledger.watch(model)
    with as_on_cuda() if args.on_gpu else nullcontext(), ledger:
        _evaluate(ledger, model, args)
        optimizer = _optimizer_under_way(ledger, model, args)
        kept = (_sft if args.per_device_batch_size else _grpo)(ledger, model, args)
        ledger.begin("update")
        optimizer.step()
    phases = {phase: parts for phase, parts in ledger.peaks.items() if phase}
    if args.load_in_4bit:
        _quantize(phases, model)
    phases = {phase: {part: parts.get(part, 0) for part in PARTS} for phase, parts in phases.items()}
    weights = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    model_title = f"{weights / 1e6:,.1f} million weights in {name} on a {'GPU' if args.on_gpu else 'CPU'}"
    return Plan(f"{model_title}\n{_title(args, config)}", phases, kept)


# ---- the phases


def _evaluate(ledger: Ledger, model, args: Args) -> None:
    """As `evaluate` does it, before and after training."""
    samples = 4 if args.full_test else 1
    batch = _prompts(model.config, max(1, args.eval_batch_size // samples), args.text_tokens)
    _sample(ledger, "evaluation", model, batch, samples, evaluate.Args.max_new_tokens, float(samples > 1))


def _grpo(ledger: Ledger, model, args: Args) -> int:
    """As `groups.Sampler.sample` and `grpo.Trainer.learn` do it; returns the bytes kept for backward."""
    prompts = args.prompts_per_device * args.gradient_accumulation_steps
    at_a_time = max(1, args.sampling_batch_size // args.num_generations)
    batch = _prompts(model.config, min(prompts, at_a_time), args.text_tokens)
    ledger.begin("sampling")
    with torch.no_grad():
        features = rollout.image_features(model, batch)
    ledger.label(features, "image features")
    batch = replace(batch, features=features)
    length = args.max_completion_length
    _sample(ledger, "sampling", model, batch, args.num_generations, length, args.temperature)

    def given(count: int) -> tuple[Batch, Completions]:
        """Prompts of one scoring pass, with features where they do not change, and their completions."""
        batch = _prompts(model.config, count, args.text_tokens)
        if not rollout.vision_is_trained(model):
            batch = replace(batch, features=features[:count].clone())
            ledger.label(batch.features, "image features")
        tokens = torch.ones(count, args.num_generations, length, dtype=torch.long)
        return batch, Completions(tokens, tokens.bool(), torch.zeros(tokens.shape))

    _gradients_of_earlier_passes(ledger, model, args)
    model.train()
    reference = None
    if args.beta:
        ledger.begin("reference")
        at_a_time = max(args.prompts_per_device, args.sampling_batch_size // (4 * args.num_generations))
        with torch.no_grad(), rollout.evaluating(model), model.disable_adapter():
            inputs = given(min(prompts, at_a_time))
            reference = rollout.per_token_logps(model, *inputs, args.temperature)
            reference = reference[: args.prompts_per_device].flatten(0, 1)
            del inputs
    batch, completions = given(args.prompts_per_device)
    if rollout.vision_is_trained(model):
        del features
    mask, tokens = completions.mask, completions.tokens
    ledger.begin("forward")
    before = ledger.total
    logps = rollout.per_token_logps(model, batch, completions, args.temperature).flatten(0, 1)
    parts = (logps, reference, torch.zeros(len(logps)), mask.flatten(0, 1))
    sizes = (length, len(logps), tokens.numel())
    loss = grpo.loss_from_logps(*parts, args.beta, args.loss_type, *sizes)
    return _backward(ledger, loss, before)


def _sft(ledger: Ledger, model, args: Args) -> int:
    """As `sft.Trainer` does it, answers as long as completions; returns the bytes kept for backward."""
    batch = _prompts(model.config, args.per_device_batch_size, args.text_tokens)
    answer = (0, args.max_completion_length)
    ids = functional.pad(batch.input_ids, answer, value=1)
    _gradients_of_earlier_passes(ledger, model, args)
    model.train()
    ledger.begin("forward")
    before = ledger.total
    logits = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        position_ids=torch.ones_like(ids).cumsum(1),
        token_type_ids=functional.pad(torch.zeros_like(batch.input_ids), answer, value=1),
        pixel_values=batch.pixel_values,
        logits_to_keep=args.max_completion_length + 1,
        use_cache=False,
    ).logits
    loss = sft.answer_loss(logits, ids, ids.numel())
    del logits
    return _backward(ledger, loss, before)


def _backward(ledger: Ledger, loss: Tensor, before: int) -> int:
    """Runs it; returns how many bytes the forward pass left for it, over `before`."""
    kept = ledger.total - before
    ledger.begin("backward")
    ledger.outside = "backward"
    loss.backward()
    ledger.outside = "other"
    return kept


def _sample(
    ledger: Ledger, phase: str, model, batch: Batch, num_generations: int, length: int, temperature: float
) -> None:
    """Samples as `rollout.sample` does it, but not every token.

    The cache grows with every token, so the highest moments are the prompt's and the last token's. Those in
    between are skipped: the last token comes after a prompt that is longer by them.
    """
    settings = {"temperature": temperature, "seeds": [0] * len(batch.input_ids)}
    ledger.begin(phase)
    rollout.sample(model, batch, num_generations, 1, **settings)
    if length == 1:
        return
    longer = {
        name: functional.pad(getattr(batch, name), (0, length - 2), value=1)
        for name in ("input_ids", "attention_mask")
    }
    passes = iter(("", phase))
    handle = model.get_base_model().register_forward_pre_hook(lambda *_: ledger.begin(next(passes)))
    rollout.sample(model, replace(batch, **longer), num_generations, 2, **settings)
    handle.remove()


def _optimizer_under_way(ledger: Ledger, model, args: Args) -> torch.optim.Optimizer:
    """AdamW with the states that its first step makes."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, _ = loop.optimizer_and_scheduler(parameters, args)
    for group in optimizer.param_groups:
        group["foreach"] = args.on_gpu  # torch's own choice: all tensors at once on a GPU, else one by one
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for state in optimizer.state.values():
        for tensor in state.values():
            ledger.label(tensor, "optimizer states")
    return optimizer


def _gradients_of_earlier_passes(ledger: Ledger, model, args: Args) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad and args.gradient_accumulation_steps > 1:
            parameter.grad = torch.zeros_like(parameter)
            ledger.label(parameter.grad, "gradients")


def _prompts(config: PaliGemmaConfig, count: int, text_tokens: int) -> Batch:
    """Prompts of one image each."""
    text, size = config.get_text_config(), config.vision_config.image_size
    image_tokens = _image_tokens(config)
    ids = torch.full((count, image_tokens + text_tokens), text.bos_token_id)
    ids[:, :image_tokens] = config.image_token_id
    return Batch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=torch.empty(count, 3, size, size, device="meta"),
        image_counts=(1,) * count,
        vocabulary=Vocabulary(torch.ones(text.vocab_size, dtype=torch.bool), text.eos_token_id, 0),
    )


def _image_tokens(config: PaliGemmaConfig) -> int:
    return (config.vision_config.image_size // config.vision_config.patch_size) ** 2


def _shape(args: Args) -> PaliGemmaConfig:
    if args.model == loading.PUBLISHED or (args.model is None and args.profile != "embedded"):
        return shapes.paligemma2_3b()
    folder = Path(args.model or loading.EMBEDDED)
    if not (folder / "config.json").is_file():
        raise UserError(f"--model {folder}: no folder with a config.json; leave it out for PaliGemma 2 3B")
    return PaliGemmaConfig.from_pretrained(folder)


def _quantize(phases: dict[str, dict[str, int]], model) -> None:
    """Puts the language model's linear layers in 4 bits, as `models.load` has bitsandbytes do it.

    nf4 has 2 weights a byte, a byte of scale for 64 weights, and a float32 of scale for 256 such scales. At
    work a layer's weights are in full for a moment: the largest layer's are added to every phase but update.
    """
    layers = model.get_base_model().model.language_model.named_modules()
    weights = [
        layer.weight for name, layer in layers if isinstance(layer, torch.nn.Linear) and "lora_" not in name
    ]
    saved = sum(weight.nbytes - _four_bit_bytes(weight.numel()) for weight in weights)
    for phase, parts in phases.items():
        parts["weights"] -= saved
        if phase != "update":
            parts["other"] += max(weight.nbytes for weight in weights)


def _four_bit_bytes(count: int) -> int:
    scales = math.ceil(count / 64)
    return math.ceil(count / 2) + scales + 4 * math.ceil(scales / 256)


# ---- the table


def _title(args: Args, config: PaliGemmaConfig) -> str:
    if args.per_device_batch_size:
        step = f"SFT, {args.per_device_batch_size} prompts with answers"
    else:
        step = f"GRPO, {args.prompts_per_device} x {args.num_generations} completions"
    image, length = _image_tokens(config), args.max_completion_length
    return f"{step} of {length} tokens after {image} of image and {args.text_tokens} of text"


def table(made: Plan, card_gib: float | None) -> str:
    """The plan for people, in GiB (MiB where all is less than 1 GiB), and whether it fits a card."""
    peak = made.highest()[1]
    unit, size = ("GiB", 2**30) if peak >= 2**30 else ("MiB", 2**20)
    line = "{:<21}" + "{:>11}" * len(made.phases)
    rows = {part: [parts[part] for parts in made.phases.values()] for part in PARTS}
    rows["together"] = list(made.totals.values())
    lines = [made.title, "", line.format(unit, *made.phases)]
    lines += [line.format(name, *(f"{n / size:.2f}" for n in row)) for name, row in rows.items() if any(row)]
    lines += ["", f"kept for backward: {made.kept_for_backward / size:.2f} {unit}"]
    for name, besides in (("of a step", "evaluation"), ("of all", "")):
        phase, most = made.highest(besides)
        lines.append(f"highest {name}: {phase}, {most / size:.2f} {unit} ({most / 1e9:.2f} GB)")
    if card_gib is not None:
        needed = (peak + CUDA_CONTEXT) / 2**30
        fits = "fits" if needed <= card_gib else "does not fit"
        lines.append(f"{needed:.2f} GiB with 0.6 for the CUDA context: {fits} a card of {card_gib} GiB")
    return "\n".join(lines)


def main(args: Args) -> Plan:
    made = plan(args)
    if args.json:
        phase, peak = made.highest()
        step_phase, step_peak = made.highest("evaluation")
        more = {"peak_phase": phase, "peak": peak, "step_peak_phase": step_phase, "step_peak": step_peak}
        print(json.dumps(asdict(made) | {"totals": made.totals} | more, indent=2))
    else:
        print(table(made, args.card_gib if args.on_gpu else None))
    return made


def _config(profile: str) -> Path:
    return loading.config_for("pali_sat_grpo_v2.yaml", "paper" if profile == "auto" else profile)


if __name__ == "__main__":
    cli.run(main, Args, default_config=_config)
