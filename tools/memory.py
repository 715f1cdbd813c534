"""What training and evaluation hold in memory, by part and by phase; without weights, data or a GPU.

python tools/memory.py                                     # GRPO v2 of PaliGemma 2 3B, float16, on a GPU
python tools/memory.py --num_generations 14 --gradient_checkpointing
python tools/memory.py --config runs/vsgrpo_2b_t.yaml --json
python tools/memory.py eval_sparkle.py --batch_size 64     # any script of this repository, with its flags
python tools/memory.py --profile embedded                  # the small model, float32, on the CPU
python tools/memory.py --all                               # every configuration and evaluation, in one table

Takes the flags and files of a script: the one that is named, or that a file in runs/ is for. The trainer
itself takes a step, on tensors that have a shape and no content (torch's meta device), while a ledger counts
the bytes of every storage alive. Every completion has the maximum length, every image its most pixels. Left
out: the CUDA context, what the allocator holds in reserve or loses between its blocks, and the workspaces of
matrix libraries.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest.mock import patch

from spatialvlm import cli  # before transformers, whose notices it hides

# isort: split
import torch
from ledger import PARTS, Ledger, as_on_cuda, fused_attention
from torch.nn import functional
from transformers import AutoConfig, PaliGemmaConfig, PreTrainedConfig
from trl import TrlParser

from spatialvlm.errors import UserError, require_above_zero
from spatialvlm.example import Example
from spatialvlm.models import loading, qwen, rollout, shapes
from spatialvlm.models.inputs import Batch, Completions, Vocabulary
from spatialvlm.models.qwen import QwenBatch, Visual
from spatialvlm.training import dpo, grpo, loop, sampler, sft

CUDA_CONTEXT = int(0.6 * 2**30)  # bytes that a process takes on a GPU before its first tensor, about
CARDS = {"T4": 14.56, "V100": 15.77, "A100": 39.4}  # GiB


@dataclass(frozen=True)
class Script:
    """What the longest prompts and answers of a script are like.

    Args:
        config: the configuration that it takes by default.
        text: tokens of a prompt besides its images'.
        images: per prompt, where it is no video.
        limit: the flag that limits the answers of its evaluation, and its value in tokens where not given.
    """

    config: str | None = None
    text: int = 80
    images: int = 1
    limit: tuple[str, int] = ("max_new_tokens", 16)


SCRIPTS = {
    "model/pali_sat_grpo.py": Script("pali_sat_grpo_v2.yaml"),
    "model/pali_sat_sft.py": Script("pali_sat_sft.yaml"),
    "model/sparkle_grpo.py": Script("sparkle_grpo.yaml"),
    "model/sparkle_sft.py": Script("sparkle_sft.yaml"),
    "model/vsi_grpo.py": Script("vsgrpo_2b_v.yaml", text=120, limit=("max_completion_length", 16)),
    "model/vsi_sft.py": Script("vsgrpo_2b_sft.yaml", text=120),
    "model/vsi_dpo.py": Script("vsgrpo_2b_dpo.yaml", text=120),
    "eval_paligemma_cvbench.py": Script(),
    "eval_paligemma_clevr.py": Script(),
    "eval_paligemma_clevr_new.py": Script(text=520),  # ten objects, described
    "eval_paligemma_vsr.py": Script(),
    "eval_paligemma_sat.py": Script(images=2),
    "eval_vsibench.py": Script(text=120),
    "eval_sparkle.py": Script(limit=("route_tokens", 64)),
    "eval_cot.py": Script(),
    "Spaceqwen_evaluation/test_spaceqwen_vqa_batch.py": Script(limit=("max_new_tokens", 1024)),
}
OF_RUNS = (  # how the name of a configuration begins and goes on, and whose it is; the first that fits
    ("pali_sat", "_grpo", "model/pali_sat_grpo.py"),
    ("pali_sat", "_sft", "model/pali_sat_sft.py"),
    ("sparkle", "_grpo", "model/sparkle_grpo.py"),
    ("sparkle", "_sft", "model/sparkle_sft.py"),
    ("vsgrpo", "_sft", "model/vsi_sft.py"),
    ("vsgrpo", "_dpo", "model/vsi_dpo.py"),
    ("vsgrpo", "", "model/vsi_grpo.py"),
)


@dataclass
class PlanArgs:
    """What a plan assumes besides a script's flags."""

    profile: Literal["auto", "embedded", "paper"] = field(
        default="auto", metadata={"help": "embedded = the small model, on CPU; else the published, on GPU"}
    )
    model: str | None = field(
        default=None,
        metadata={"help": "a published model, or a folder with a config.json; by profile if not given"},
    )
    device: Literal["auto", "cuda", "cpu"] = field(
        default="auto", metadata={"help": "they differ in some intermediate results; by profile"}
    )
    text_tokens: int | None = field(
        default=None, metadata={"help": "tokens of a prompt besides its images'; by script"}
    )
    answer_tokens: int = field(
        default=32, metadata={"help": "tokens of the answers that SFT and DPO learn from"}
    )
    card_gib: float = field(
        default=CARDS["T4"], metadata={"help": "memory of the GPU: 14.56 is a T4's, 15.77 a V100's of 16 GB"}
    )
    json: bool = field(default=False, metadata={"help": "print JSON instead of a table"})
    all: bool = field(
        default=False, metadata={"help": "one line for each configuration in runs/ and each evaluation"}
    )

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda" or (self.device == "auto" and self.profile != "embedded")


def args_of(script: str) -> type:
    """The flags of a script of this repository together with the plan's."""
    return make_dataclass("Args", [], bases=(PlanArgs, _module(script).Args), namespace={"script": script})


@lru_cache
def _module(script: str):
    name = f"planned_{Path(script).stem}"
    spec = importlib.util.spec_from_file_location(name, cli.ROOT / script)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Args = args_of("model/pali_sat_grpo.py")


def script_of(config: str | Path) -> str:
    """The script that a configuration in runs/ is for."""
    name = Path(config).stem
    if not Path(config).is_file():
        raise UserError(f"--config {config}: no such file")
    for beginning, further, script in OF_RUNS:
        if name.startswith(beginning) and further in name:
            return script
    raise UserError(f"--config {config}: no script takes such a file; name the script before its flags")


def check(args) -> None:
    """Raise UserError naming the first invalid argument."""
    if isinstance(args, loop.TrainingArgs):
        args.check()
    require_above_zero(text_tokens=args.text_tokens, answer_tokens=args.answer_tokens, card_gib=args.card_gib)
    if args.load_in_4bit and not args.on_gpu:
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


def plan(args, config: PreTrainedConfig | None = None) -> Plan:
    """What one process holds while it trains, after its first steps, and while it evaluates.

    Args:
        args: of a class that `args_of` made.
        config: the model's shape; by `args` if None.

    Raises:
        UserError: invalid arguments, a folder without a model's configuration, prompt and completion longer
            than the model's window.
    """
    check(args)
    work = Workload(args, config)
    training = isinstance(args, loop.TrainingArgs)
    with torch.device("meta"), redirect_stdout(sys.stderr):
        model = shapes.random_model(work.config, work.dtype, "meta")
        model = loop.add_adapter(model, args) if training else model.requires_grad_(False)
    ledger = Ledger(work.config.get_text_config().vocab_size)
    ledger.watch(model)
    weights = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    blocks = _with_two_vision_blocks(model) if work.qwen else None  # all of them, and so their weights
    kind = next((kind for kind in PLANNED if training and isinstance(args, PLANNED[kind][0])), None)
    sample = partial(_sample, ledger, rollout.sample)
    device = as_on_cuda() if args.on_gpu else nullcontext()
    with device, fused_attention(), _what_is_known(), ledger, patch.object(rollout, "sample", sample):
        ledger.begin("evaluation")
        batch = work.prompts(max(1, work.answers // work.samples))
        with torch.no_grad():
            features = rollout.image_features(model, batch)
        batch = replace(batch.without_pixels(), features=features)  # as `Features.of` does it
        rollout.sample(model, batch, work.samples, work.answer_tokens, float(work.samples > 1))
        del batch, features
        if kind:
            trainer = PLANNED[kind][1](ledger, model, work)
            trainer.take_first_step()
            trainer.plan_step()
    phases = {phase: parts for phase, parts in ledger.peaks.items() if phase}
    del blocks
    if args.load_in_4bit:
        _quantize(phases, model)
    phases = {phase: {part: parts.get(part, 0) for part in PARTS} for phase, parts in phases.items()}
    name = str(work.dtype).removeprefix("torch.")
    title = f"{weights / 1e6:,.1f} million weights in {name} on a {'GPU' if args.on_gpu else 'CPU'}"
    title += f"\n{kind or 'evaluation'}, {work.title(kind)}"
    return Plan(title, phases, trainer.kept_for_backward if kind else 0)


def _with_two_vision_blocks(model) -> torch.nn.ModuleList:
    """Leave a frozen Qwen tower two blocks, and return all: they are alike, and none keeps anything.

    Each looks at every step of a video apart, so that most of a plan's time goes into them.
    """
    visual = rollout.core_and_family(model)[0].model.visual
    blocks = visual.blocks
    if not rollout.vision_is_trained(model):
        visual.blocks = blocks[:2]
    return blocks


@contextmanager
def _what_is_known() -> Iterator[None]:
    """Keeps small tensors that are made of numbers real: sizes of images have a content on any device."""
    made = torch.tensor

    def real(data, *, device=None, **options) -> torch.Tensor:
        return made(data, **options)

    with patch.object(torch, "tensor", real):
        yield


# ---- what is computed: a script's prompts, answers and model


class Workload:
    """The longest prompts and answers of a script, and how many there are at a time."""

    def __init__(self, args, config: PreTrainedConfig | None = None):
        self.args, self.script = args, SCRIPTS[args.script]
        self.config = config or _shape(args)
        self.qwen = not isinstance(self.config, PaliGemmaConfig)
        name = args.dtype if args.dtype != "auto" else "float16" if args.on_gpu else "float32"
        self.dtype = getattr(torch, name)
        self.text = args.text_tokens or self.script.text
        by_profile = cli.defaults_by_profile(type(args))
        profile = "embedded" if args.profile == "embedded" else "paper"

        def value(flag: str, otherwise: int | None = None) -> int | None:
            """A flag's value, the profile's, or another."""
            given = getattr(args, flag, None)
            return given if given is not None else by_profile.get(flag, {}).get(profile, otherwise)

        self.frames = value("num_frames")
        self.pixels = value("max_pixels", qwen.PIXELS[1])
        self.samples = 4 if getattr(args, "full_test", False) else getattr(args, "num_samples", 1)
        sizes = ("eval_batch_size", "batch_size", "concurrency")
        self.answers = next(getattr(args, name) for name in sizes if hasattr(args, name))
        self.answer_tokens = value(*self.script.limit)

    @property
    def image_tokens(self) -> int:
        """Of a prompt."""
        if not self.qwen:
            vision = self.config.vision_config
            return (vision.image_size // vision.patch_size) ** 2 * (self.frames or self.script.images)
        per_image = math.prod(self._grid()) // self.config.vision_config.spatial_merge_size**2
        return per_image * (1 if self.frames else self.script.images)

    def _grid(self) -> tuple[int, int, int]:
        """Patches of an image or video of Qwen's in time, height and width, with the most pixels."""
        vision = self.config.vision_config
        merged = vision.spatial_merge_size
        tokens = self.pixels // (vision.patch_size * merged) ** 2
        high = next(side for side in range(math.isqrt(tokens), 0, -1) if tokens % side == 0)
        steps = math.ceil((self.frames or 1) / vision.temporal_patch_size)
        return steps, merged * high, merged * tokens // high

    def prompts(self, count: int) -> Batch | QwenBatch:
        text, tokens = self.config.get_text_config(), self.image_tokens
        ids = torch.ones(count, tokens + self.text, dtype=torch.long)
        mask = torch.ones_like(ids)
        allowed = torch.ones(text.vocab_size, dtype=torch.bool)
        vocabulary = Vocabulary(allowed, text.eos_token_id, 0)
        if not self.qwen:
            ids[:, :tokens] = self.config.image_token_id
            size, images = self.config.vision_config.image_size, self.frames or self.script.images
            pixels = torch.empty(count * images, 3, size, size, device="meta")
            return Batch(ids, mask, pixels, (images,) * count, vocabulary)
        ids[:, :tokens] = self.config.video_token_id if self.frames else self.config.image_token_id
        grid, seconds = self._grid(), 1.0 if self.frames else None
        vision = self.config.vision_config
        values = 3 * vision.temporal_patch_size * vision.patch_size**2
        visuals = tuple(
            tuple(
                Visual(torch.empty(math.prod(grid), values, device="meta"), grid, seconds)
                for _ in range(1 if self.frames else self.script.images)
            )
            for _ in range(count)
        )
        return QwenBatch(ids, mask, visuals, vision.spatial_merge_size, vocabulary)

    def title(self, kind: str | None) -> str:
        """A step, or the answers of an evaluation, in words."""
        args = self.args
        if kind is None:
            step, length = f"{self.answers} answers at a time", self.answer_tokens
        elif kind == "GRPO":
            step = f"{args.prompts_per_pass} x {args.num_generations} completions"
            length = args.max_completion_length
        else:
            answers = "answers" if kind == "SFT" else "two answers each"
            step, length = f"{args.prompts_per_pass} prompts with {answers}", args.answer_tokens
        return f"{step} of {length} tokens after {self.image_tokens} of image and {self.text} of text"


# ---- the trainers' own steps, with prompts that have a shape and no content


class _Planned(loop.Trainer):
    """A trainer that tells the ledger which phase it is in.

    Of a step's micro-batches two are learnt from: the second with the gradients of the first.
    """

    kept_for_backward = 0

    def __init__(self, ledger: Ledger, model, work: Workload):
        self.ledger, self.work, args = ledger, work, work.args
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
    def __init__(self, ledger: Ledger, model, work: Workload):
        super().__init__(ledger, model, work)
        decode = lambda group, **_: [str(number) for number in range(len(group))]  # noqa: E731
        processor = SimpleNamespace(tokenizer=SimpleNamespace(batch_decode=decode))
        self.sampler = PlannedSampler(model, processor, self.examples, lambda text, _: float(text), work.args)
        self.sampler.ledger, self.sampler.work = ledger, work

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
    work: Workload

    def encode(self, examples: Sequence[Example]) -> Batch | QwenBatch:
        return self.work.prompts(len(examples))

    def micro_batch(self, groups):
        batch, completions = super().micro_batch(groups)
        if batch.features is not None:
            self.ledger.label(batch.features, "image features")
        return batch, completions


class PlannedSFT(_Planned, sft.Trainer):
    def encode(self, examples: Sequence[Example]) -> dict[str, Any]:
        """As `sft.encode` has them."""
        length, batch = self.args.answer_tokens, self.work.prompts(len(examples))
        if self.work.qwen:
            return {"batch": batch, "labels": torch.ones(len(examples), length, dtype=torch.long)}
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


class PlannedDPO(_Planned, dpo.Trainer):
    def encode(self, examples: Sequence[Example]) -> tuple[Batch | QwenBatch, Completions]:
        tokens = torch.ones(len(examples), 2, self.args.answer_tokens, dtype=torch.long)
        answers = Completions(tokens, tokens.bool(), torch.zeros(tokens.shape))
        return self.work.prompts(len(examples)), answers


PLANNED = {  # DPO's flags are SFT's and more
    "GRPO": (grpo.GRPOArgs, PlannedGRPO),
    "DPO": (dpo.DPOArgs, PlannedDPO),
    "SFT": (sft.SFTArgs, PlannedSFT),
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
        handle = rollout.core_and_family(model)[0].register_forward_pre_hook(
            lambda *_: ledger.begin(next(passes))
        )
        sample(model, replace(batch, **longer), num_generations, 2, **settings)
        handle.remove()
    tokens = torch.ones(count, num_generations, length, dtype=torch.long)
    return Completions(tokens, tokens.bool(), torch.zeros(tokens.shape))


def _shape(args) -> PreTrainedConfig:
    profile = "embedded" if args.profile == "embedded" else "paper"
    name = args.model or cli.defaults_by_profile(type(args))["model"][profile]
    if name in shapes.PUBLISHED:
        return shapes.PUBLISHED[name]()
    folder = loading.EMBEDDED if Path(name) in (loading.ROOMS, loading.LABELS) else Path(name)
    if not (folder / "config.json").is_file():
        known = ", ".join(shapes.PUBLISHED)
        raise UserError(f"--model {folder}: no folder with a config.json, and none of {known}")
    return AutoConfig.from_pretrained(folder)


def _quantize(phases: dict[str, dict[str, int]], model) -> None:
    """Puts the language model's linear layers in 4 bits, as `models.load` has bitsandbytes do it.

    nf4 has 2 weights a byte, a byte of scale for 64 weights, and a float32 of scale for 256 such scales. At
    work a layer's weights are in full for a moment: the largest layer's are added to every phase but update.
    """
    layers = rollout.core_and_family(model)[0].model.language_model.named_modules()
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


def table(made: Plan, card_gib: float | None) -> str:
    """The plan for people, in GiB (MiB where all is less than 1 GiB), and whether it fits a card."""
    peak = made.highest()[1]
    unit, size = ("GiB", 2**30) if peak >= 2**30 else ("MiB", 2**20)
    line = "{:<21}" + "{:>11}" * len(made.phases)
    rows = {part: [parts[part] for parts in made.phases.values()] for part in PARTS}
    rows["together"] = list(made.totals.values())
    lines = [made.title, "", line.format(unit, *made.phases)]
    lines += [line.format(name, *(f"{n / size:.2f}" for n in row)) for name, row in rows.items() if any(row)]
    lines.append("")
    if made.kept_for_backward:
        lines.append(f"kept for backward: {made.kept_for_backward / size:.2f} {unit}")
    for name, besides in (("of a step", "evaluation"), ("of all", "")):
        if set(made.totals) - {besides}:
            phase, most = made.highest(besides)
            lines.append(f"highest {name}: {phase}, {most / size:.2f} {unit} ({most / 1e9:.2f} GB)")
    if card_gib is not None:
        needed = (peak + CUDA_CONTEXT) / 2**30
        fits = "fits" if needed <= card_gib else "does not fit"
        lines.append(f"{needed:.2f} GiB with 0.6 for the CUDA context: {fits} a card of {card_gib} GiB")
    return "\n".join(lines)


# ---- all there is


def planned() -> Iterator[tuple[str, Plan]]:
    """Plan every configuration in runs/ and every evaluation as it is by default, in float16 on a GPU.

    Ablations that leave something out of the data take what the others do, and are planned once.
    """
    known: dict[str, Plan] = {}
    for config in sorted(loading.RUNS.glob("*.yaml")):
        args = parsed(script_of(config), "--config", str(config))
        kept = {name: value for name, value in asdict(args).items() if name not in OF_DATA}
        key = json.dumps([args.script, kept], sort_keys=True)
        if key not in known:
            known[key] = plan(args)
        yield config.stem, known[key]
    for script in SCRIPTS:
        if not script.startswith("model/"):
            yield script, plan(parsed(script, "--profile", "paper"))


OF_DATA = ("run_name", "data", "capabilities", "numbers", "configurations", "train_limit", "prompt")


def parsed(script: str, *flags: str):
    """The flags of a script with the plan's, as its command line gives them."""
    (args,) = TrlParser(args_of(script)).parse_args_and_config([*flags])
    return args


def fitting(peak: int) -> dict[str, bool]:
    """Which cards hold a process of so many bytes, besides the CUDA context."""
    return {card: peak + CUDA_CONTEXT <= size * 2**30 for card, size in CARDS.items()}


def table_of_all() -> str:
    """All plans in one table."""
    line = "{:<50} {:>12} {:>6}" + " {:>6}" * len(CARDS)
    lines = [line.format("float16, planned", "highest in", "GB", *CARDS)]
    for name, made in planned():
        phase, peak = made.highest()
        fits = ["yes" if fits else "no" for fits in fitting(peak).values()]
        lines.append(line.format(name, phase, f"{peak / 1e9:.1f}", *fits))
    return "\n".join(lines)


# ---- the command


def main(args) -> Plan | None:
    if args.all:
        print(table_of_all())
        return None
    made = plan(args)
    if args.json:
        phase, peak = made.highest()
        more = {"peak_phase": phase, "peak": peak}
        if made.kept_for_backward:
            step_phase, step_peak = made.highest("evaluation")
            more |= {"step_peak_phase": step_phase, "step_peak": step_peak}
        print(json.dumps(asdict(made) | {"totals": made.totals} | more, indent=2))
    else:
        print(table(made, args.card_gib if args.on_gpu else None))
    return made


def run(words: Sequence[str]) -> Plan | None:
    """Plan what the command line says: a script, or the one that its --config is for, and its flags."""
    script, flags = "model/pali_sat_grpo.py", list(words)
    if flags and flags[0].endswith(".py"):
        script = flags.pop(0)
    elif "--config" in flags[:-1]:
        script = script_of(flags[flags.index("--config") + 1])
    if script not in SCRIPTS:
        raise UserError(f"{script} is none of {', '.join(SCRIPTS)}")
    config = SCRIPTS[script].config

    def default(profile: str) -> Path:
        return loading.config_for(config, "paper" if profile == "auto" else profile)

    return cli.run(main, args_of(script), flags, default_config=default if config else None)


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
