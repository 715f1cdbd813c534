"""What training holds in memory, by part and by phase; without weights, data or a GPU.

python tools/memory.py                                     # GRPO v2 of PaliGemma 2 3B, float16, on a GPU
python tools/memory.py --num_generations 14 --gradient_checkpointing
python tools/memory.py --config runs/pali_sat_sft.yaml --json
python tools/memory.py --profile embedded                  # the small model, float32, on the CPU

Takes the training scripts' flags and files. The trainer itself takes a step, on tensors that have a shape and
no content (torch's meta device), while a ledger counts the bytes of every storage alive. Every completion has
the maximum length. Left out: the CUDA context, what the allocator holds in reserve or loses between its
blocks, and the workspaces of matrix libraries.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest.mock import patch

from spatialvlm import cli  # before transformers, whose notices it hides

# isort: split
import torch
from ledger import PARTS, Ledger, as_on_cuda
from torch.nn import functional
from transformers import PaliGemmaConfig

from spatialvlm.errors import UserError, require_above_zero
from spatialvlm.evaluation import evaluate
from spatialvlm.example import Example
from spatialvlm.models import loading, rollout, shapes
from spatialvlm.models.inputs import Batch, Completions, Vocabulary
from spatialvlm.papers.sat import ExperimentArgs
from spatialvlm.training import grpo, loop, sampler, sft

EVALUATED_TOKENS = evaluate.Args.max_new_tokens
CUDA_CONTEXT = int(0.6 * 2**30)  # bytes that a process takes on a GPU before its first tensor, about


@dataclass
class Args(ExperimentArgs, grpo.GRPOArgs):
    """What a run takes, and what a plan assumes besides."""

    profile: Literal["auto", "embedded", "paper"] = field(
        default="auto", metadata={"help": "embedded = the small model, on CPU; else the published, on GPU"}
    )
    model: str | None = field(
        default=None, metadata={"help": "folder with a PaliGemma's config.json; by profile if not given"}
    )
    per_device_batch_size: int | None = field(
        default=None, metadata={"help": "prompts per forward pass of SFT; if given, SFT is planned"}
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

    @property
    def prompts_per_pass(self) -> int:
        return self.per_device_batch_size or self.prompts_per_device

    def check(self) -> None:
        """Raise UserError naming the first invalid argument."""
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

    `config` is the model's shape; by `args` if None.

    Raises:
        UserError: invalid arguments, a folder without a model's configuration, prompt and completion longer
            than the model's window.
    """
    args.check()
    config = config or _shape(args)
    name = args.dtype if args.dtype != "auto" else "float16" if args.on_gpu else "float32"
    dtype = getattr(torch, name)
    with torch.device("meta"), redirect_stdout(sys.stderr):
        model = loop.add_adapter(shapes.random_model(config, dtype, "meta"), args)
    ledger = Ledger(config.get_text_config().vocab_size)
    ledger.watch(model)
    trainer = (PlannedSFT if args.per_device_batch_size else PlannedGRPO)(ledger, model, args)
    sample = partial(_sample, ledger, rollout.sample)
    with as_on_cuda() if args.on_gpu else nullcontext(), ledger, patch.object(rollout, "sample", sample):
        samples = 4 if args.full_test else 1
        batch = _prompts(config, max(1, args.eval_batch_size // samples), args.text_tokens)
        ledger.begin("evaluation")
        rollout.sample(model, batch, samples, EVALUATED_TOKENS, float(samples > 1))
        del batch
        trainer.take_first_step()
        trainer.plan_step()
    phases = {phase: parts for phase, parts in ledger.peaks.items() if phase}
    if args.load_in_4bit:
        _quantize(phases, model)
    phases = {phase: {part: parts.get(part, 0) for part in PARTS} for phase, parts in phases.items()}
    weights = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    model_title = f"{weights / 1e6:,.1f} million weights in {name} on a {'GPU' if args.on_gpu else 'CPU'}"
    return Plan(f"{model_title}\n{_title(args, config)}", phases, trainer.kept_for_backward)


# ---- the trainers' own steps, with prompts that have a shape and no content


class _Planned(loop.Trainer):
    """A trainer that tells the ledger which phase it is in.

    Of a step's micro-batches two are learnt from: the second with the gradients of the first.
    """

    kept_for_backward = 0

    def __init__(self, ledger: Ledger, model, args: Args):
        self.ledger = ledger
        count = args.prompts_per_pass * args.gradient_accumulation_steps
        image = (Path("image"),)
        examples = [Example(str(n), image, "question", answer="answer", task="plan") for n in range(count)]
        loop.Trainer.__init__(self, model, None, examples, args)
        self.scaler = torch.amp.GradScaler(enabled=False)  # it takes no memory, and looks at the content
        self.optimizer.register_step_pre_hook(self._begin_update)
        for group in self.optimizer.param_groups:  # torch's own choice: all tensors at once on a GPU
            group["foreach"] = args.on_gpu

    def take_first_step(self) -> None:
        """Give AdamW the states that its first step makes."""
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad()
        for state in self.optimizer.state.values():
            for tensor in state.values():
                self.ledger.label(tensor, "optimizer states")
        self.ledger.peaks.pop("update")

    def _begin_update(self, *_: object) -> None:
        self.ledger.begin("update")
        self.ledger.outside = "other"

    def plan_step(self) -> None:
        self.step()

    def update(self, micro_batches, loss, sums=()):
        ledger = self.ledger

        def watched(micro_batch):
            ledger.begin("forward")
            ledger.outside, before = "other", ledger.total
            values = loss(micro_batch)
            self.kept_for_backward = ledger.total - before
            ledger.begin("backward")
            ledger.outside = "backward"
            return values

        return super().update(micro_batches[:2], watched, sums)


class PlannedGRPO(_Planned, grpo.Trainer):
    def __init__(self, ledger: Ledger, model, args: Args):
        super().__init__(ledger, model, args)
        decode = lambda group, **_: [str(number) for number in range(len(group))]  # noqa: E731
        processor = SimpleNamespace(tokenizer=SimpleNamespace(batch_decode=decode))
        self.sampler = PlannedSampler(model, processor, self.examples, lambda text, _: float(text), args)
        self.sampler.ledger = ledger

    def plan_step(self) -> None:
        self.ledger.begin("sampling")
        collected = self.sampler.collect(0)
        for group in collected.groups:
            if group.features is not None:
                self.ledger.label(group.features, "image features")
        self.learn(collected)

    def reference_logps(self, groups):
        self.ledger.begin("reference")
        return super().reference_logps(groups)


class PlannedSampler(sampler.Sampler):
    ledger: Ledger

    def encode(self, examples: Sequence[Example]) -> Batch:
        return _prompts(self.model.config, len(examples), self.args.text_tokens)

    def micro_batch(self, groups):
        batch, completions = super().micro_batch(groups)
        if batch.features is not None:
            self.ledger.label(batch.features, "image features")
        return batch, completions


class PlannedSFT(_Planned, sft.Trainer):
    def encode(self, examples: Sequence[Example]) -> dict[str, Any]:
        """As `sft.encode` has them, answers as long as completions."""
        args, length = self.args, self.args.max_completion_length
        batch = _prompts(self.model.config, len(examples), args.text_tokens)
        ids = functional.pad(batch.input_ids, (0, length), value=1)
        labels = ids.clone()
        labels[:, :-length] = -100
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "position_ids": torch.ones_like(ids).cumsum(1),
            "token_type_ids": functional.pad(torch.zeros_like(batch.input_ids), (0, length), value=1),
            "pixel_values": batch.pixel_values,
            "labels": labels,
            "logits_to_keep": length + 1,
            "use_cache": False,
        }


def _sample(
    ledger: Ledger,
    sample: Callable[..., Completions],
    model,
    batch: Batch,
    num_generations: int,
    length: int,
    temperature: float,
    seeds: Sequence[int] = (),
) -> Completions:
    """Sample as `rollout.sample` does it, but not every token; all completions are `length` long.

    The cache grows with every token, so the highest moments are the prompt's and the last token's. Those in
    between are skipped: the last token comes after a prompt that is longer by them.
    """
    count, phase = len(batch.input_ids), ledger.phase
    if batch.features is not None:
        ledger.label(batch.features, "image features")
    settings = {"temperature": temperature, "seeds": [0] * count}
    sample(model, batch, num_generations, 1, **settings)
    if length > 1:
        longer = {
            name: functional.pad(getattr(batch, name), (0, length - 2), value=1)
            for name in ("input_ids", "attention_mask")
        }
        passes = iter(("", phase))
        handle = model.get_base_model().register_forward_pre_hook(lambda *_: ledger.begin(next(passes)))
        sample(model, replace(batch, **longer), num_generations, 2, **settings)
        handle.remove()
    tokens = torch.ones(count, num_generations, length, dtype=torch.long)
    return Completions(tokens, tokens.bool(), torch.zeros(tokens.shape))


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
