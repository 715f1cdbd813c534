"""Loading a PaliGemma, Qwen2-VL or Qwen2.5-VL with its processor, and LoRA on it.

Every guard about weights and devices is here.
"""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import (
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedConfig,
    set_seed,
)
from transformers.utils.logging import disable_progress_bar

from spatialvlm import devices, distributed, text_files
from spatialvlm.cli import defaults_by_profile
from spatialvlm.disk import disk_errors, whole
from spatialvlm.errors import UserError, first_line, shown
from spatialvlm.models import precision, qwen, sharding

_DOWNLOADS_SHOW = not are_progress_bars_disabled()
disable_progress_bar()  # of weights read from disk; it takes the bars of downloads with it
if _DOWNLOADS_SHOW:
    enable_progress_bars()

PUBLISHED = "google/paligemma2-3b-mix-224"
EMBEDDED = Path(__file__).resolve().parents[1] / "embedded"
ROOMS, LABELS = EMBEDDED / "rooms", EMBEDDED / "labels"  # what it needs to see of further worlds
RUNS = Path(__file__).resolve().parents[2] / "runs"
WEIGHTS = "adapter_model.safetensors"
LORA_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Modules by part: PaliGemma's, and Qwen's, whose projector (`merger`) sits in its vision tower.
PARTS = {
    "language": r"\blanguage_model\b",
    "vision": r"\bvision_tower\b|\bvisual\.(?!merger\b)",
    "projector": r"\bmulti_modal_projector\b|\bvisual\.merger\b",
}
# transformers matches a pattern from the start of a module's full name: all that is no language layer.
KEPT_FROM_4BIT = [r"(?!.*\blanguage_model\.).*"]


@dataclass
class ModelArgs:
    """Which model, and how it is held in memory.

    A flag whose default depends on the profile is None in the dataclass and stands in `BY_PROFILE`, here or
    in a subclass; `fill_defaults` sets it, and --help shows both values.
    """

    FLAG_GROUP: ClassVar = "model"
    BY_PROFILE: ClassVar = {"model": {"paper": PUBLISHED, "embedded": str(EMBEDDED)}}
    profile: Literal["auto", "embedded", "paper"] = field(
        default="auto",
        metadata={
            "help": "paper = published model and data; embedded = the small ones; auto = paper with CUDA"
        },
    )
    model: str | None = field(
        default=None,
        metadata={"help": "hub id (owner/name[@revision]) or folder of a PaliGemma, Qwen2-VL or Qwen2.5-VL"},
    )
    adapter: str | None = field(default=None, metadata={"help": "folder of a PEFT adapter for the model"})
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto",
        metadata={"help": "of the weights: auto = float32 on CPU, else bfloat16 where native, else float16"},
    )
    load_in_4bit: bool = field(default=False, metadata={"help": "language weights in 4 bit (CUDA only)"})
    shard_base: bool = field(
        default=False,
        metadata={"help": "shard the frozen decoder layers over the processes of a launch (FSDP)"},
    )
    seed: int = field(default=0, metadata={"help": "seed of everything random"})


def resolve_profile(args: ModelArgs) -> tuple[str, str]:
    """(`paper` or `embedded`, the reason in words).

    Raises:
        UserError: `auto`, and a GPU is here that cannot be used.
    """
    return _resolve(args.profile)


def require_device(args: ModelArgs) -> None:
    """Raise UserError where a GPU is here that cannot be used, unless the small model is asked for.

    To be called before anything is downloaded.
    """
    if args.profile != "embedded":
        devices.require_usable()


def fill_defaults(args: ModelArgs, *names: str) -> str:
    """Set the named flags that were not given to the profile's defaults; returns the profile.

    Raises:
        UserError: as `require_device`.
    """
    require_device(args)
    profile, _ = resolve_profile(args)
    defaults = defaults_by_profile(type(args))
    for name in names:
        if getattr(args, name) is None:
            setattr(args, name, defaults[name][profile])
    return profile


def model_name(args: ModelArgs) -> str:
    """The model asked for by --model, or the profile's."""
    return args.model or defaults_by_profile(type(args))["model"][resolve_profile(args)[0]]


def split_revision(name: str) -> tuple[str, str | None]:
    """(`owner/name`, revision) of `owner/name@revision`; (the name, None) of folders and other ids."""
    id, at, revision = name.partition("@")
    return (id, revision) if at and id.count("/") == 1 and not Path(name).exists() else (name, None)


def weights_name(model) -> str:
    """Where a model's weights come from: a folder, a hub id as it was given; its class if made in memory."""
    return model.config.name_or_path or type(model).__name__


def config_for(name: str, profile: str = "auto") -> Path:
    """The published configuration `name` in runs/, or its embedded twin, as the profile says."""
    return RUNS / name if _resolve(profile)[0] == "paper" else RUNS / "embedded" / name


def _resolve(profile: str) -> tuple[str, str]:
    best = "paper" if devices.uses_cuda() else "embedded"
    if profile == "auto":
        devices.require_usable()
    elif profile != best or devices.problem():
        return profile, "as requested"
    if best == "paper":
        return "paper", "a CUDA device is here; --profile embedded for the small model"
    hidden = "GPUs are hidden by CUDA_VISIBLE_DEVICES or --cpu"
    reason = hidden if devices.keeps_off_gpus() else "no CUDA device here"
    return "embedded", f"{reason}; --profile paper for the published model"


def load(
    args: ModelArgs, train_adapter: bool = False, pixels: tuple[int, int] = qwen.PIXELS
) -> tuple[torch.nn.Module, PaliGemmaProcessor | qwen.ChatProcessor]:
    """(model, processor): safetensors only, no hub code; attention as `rollout` takes it.

    That is eager for PaliGemma (others drop its masks), scaled-dot-product for Qwen2-VL and Qwen2.5-VL.

    The model is in eval mode, on CUDA where it is there, else on the CPU. A folder that holds an adapter
    instead of a model (`ROOMS`) stands for its base with the adapter merged into it. With `args.adapter` the
    model is a PeftModel, frozen unless `train_adapter`. Prints profile and reason; sets every seed.

    Args:
        pixels: least and most of an image or frame, for Qwen2-VL and Qwen2.5-VL.

    Raises:
        UserError: a model that cannot be downloaded, is of another type or is damaged; an adapter that is
            missing or does not fit; a dtype or quantization that the device does not have; a GPU that
            cannot be used.
    """
    require_device(args)
    profile, reason = resolve_profile(args)
    state = distributed.state()
    dtype = resolve_dtype(args.dtype, state.device)
    if state.is_main_process:
        print(f"profile: {profile} ({reason}); {devices.describe(state.device, dtype)}", flush=True)
    set_seed(args.seed)
    _check_launch(args, state)
    name = model_name(args)
    if args.adapter:
        _check_adapter(Path(args.adapter), "--adapter")
    options = {"dtype": dtype, "device_map": {"": state.device}}
    if args.load_in_4bit:
        options["quantization_config"] = _four_bits(dtype, state.device)
    name, merged = _base(name)
    if merged and args.load_in_4bit:
        raise UserError(f"--load_in_4bit: the adapter {merged} cannot be merged into 4-bit weights")
    if merged:
        _check_adapter(merged, "--model")
    with _explained(name):
        chats = _model_type(name) in qwen.TYPES
        if chats and args.shard_base:
            raise UserError("--shard_base is for PaliGemma; leave it out, a Qwen runs whole on each device")
        id, pinned = split_revision(name)
        revision = pinned or "main"
        if chats:
            processor, made = qwen.load_processor(id, pixels, revision), AutoModelForImageTextToText
        else:
            # Also beside torchvision, whose resizing gives other pixels.
            processor = PaliGemmaProcessor.from_pretrained(id, revision=revision, backend="pil")
            made = PaliGemmaForConditionalGeneration
        attention = "sdpa" if chats else "eager"
        options |= {"attn_implementation": attention, "use_safetensors": True}
        model = made.from_pretrained(id, revision=revision, **options)
    if pinned:
        model.config.name_or_path = name
    if merged:
        model = _with_adapter(model, merged, False, "--model").merge_and_unload()
        model.config.name_or_path = model.name_or_path = str(merged)
    precision.float32_stream(model)
    if state.device.type == "cpu" and dtype != torch.float32:
        # There torch copies frozen weights for each prompt of which only some rows are multiplied.
        output = model.get_output_embeddings()
        output.register_forward_pre_hook(lambda layer, inputs: (inputs[0].contiguous(),))
    if args.shard_base:
        sharding.shard(model)
    if args.adapter:
        model = _with_adapter(model, Path(args.adapter), train_adapter, "--adapter")
    return model.eval(), processor


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype named, or what `auto` means on `device`. Raises UserError where the device lacks it."""
    if device.type != "cuda":
        if name == "float16":
            raise UserError(
                "--dtype float16 is for GPUs; on this CPU use float32 (or bfloat16 to save memory)"
            )
        return torch.float32 if name == "auto" else getattr(torch, name)
    native = devices.has_bfloat16()
    if name == "bfloat16" and not native:
        raise UserError(
            f"{torch.cuda.get_device_name(device)} has no bfloat16; use --dtype float16 or float32"
        )
    return getattr(torch, name if name != "auto" else "bfloat16" if native else "float16")


def add_lora(
    model,
    r: int = 16,
    alpha: int = 32,
    dropout: float = 0.05,
    target_modules: Sequence[str] = LORA_MODULES,
    scope: Literal["language", "all"] = "language",
) -> PeftModel:
    """LoRA in float32 on the linear layers named, everything else frozen; prints what is trained, by part.

    Args:
        target_modules: last parts of module names.
        scope: `language` leaves out the vision tower, whose layers partly bear the same names; `all` has it.

    Raises:
        UserError: no layer in the scope bears one of the names.
        ValueError: the model has an adapter already.
    """
    if isinstance(model, PeftModel):
        raise ValueError(
            "the model has an adapter already; load it with train_adapter=True to train that one"
        )
    inside = r".*\blanguage_model\..*" if scope == "language" else ".*"
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    linear = [name for name in linear if re.fullmatch(inside, name)]
    if missing := set(target_modules) - {name.rpartition(".")[2] for name in linear}:
        there = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise UserError(f"--lora_target_modules {min(missing)}: scope {scope!r} has only {there}")
    config = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=rf"{inside}\.(?:{'|'.join(target_modules)})",
        task_type="CAUSAL_LM",
    )
    with _without_deprecations():
        _, revision = split_revision(weights_name(model))
        model = get_peft_model(model, config, autocast_adapter_dtype=True, revision=revision)
    if PartialState().is_main_process:
        parts = trainable_parameters(model)
        by_part = ", ".join(f"{part} {count:,}" for part, count in parts.items())
        print(
            f"LoRA r={r} alpha={alpha}: {sum(parts.values()):,} trainable parameters ({by_part})", flush=True
        )
    return model


def trainable_parameters(model) -> dict[str, int]:
    """How many parameters are trained in each part of the model."""
    trained = [(name, p.numel()) for name, p in model.named_parameters() if p.requires_grad]
    return {part: sum(n for name, n in trained if re.search(names, name)) for part, names in PARTS.items()}


def save_adapter(model: PeftModel, folder: str | Path) -> None:
    """Write the adapter in PEFT's format, from the main process; `folder` is whole or not there."""
    if not PartialState().is_main_process:
        return
    folder = Path(folder)
    for config in model.peft_config.values():
        base = Path(config.base_model_name_or_path or "")
        if base.is_absolute():  # a folder of this machine: relative to the adapter
            config.base_model_name_or_path = os.path.relpath(base, folder.resolve())
    with disk_errors(folder), whole(folder) as aside:
        model.save_pretrained(str(aside), save_embedding_layers=False)


def _check_launch(args: ModelArgs, state: PartialState) -> None:
    if any(parse_flag_from_env(f"ACCELERATE_USE_{name}") for name in ("FSDP", "DEEPSPEED")):
        raise UserError(
            "this launch shards by accelerate's FSDP or DeepSpeed, which cannot sample; launch with "
            "runs/accelerate/multi_gpu.yaml and shard with --shard_base"
        )
    if args.shard_base and state.num_processes < 2:
        raise UserError("--shard_base shards a model over processes; leave it out, or use accelerate launch")
    if args.shard_base and args.load_in_4bit:
        raise UserError("--shard_base cannot shard 4-bit weights; leave out --load_in_4bit")


def _base(name: str) -> tuple[str, Path | None]:
    """(the model of that name, None), or the base of the adapter in that folder and the folder itself."""
    folder = Path(name)
    if (folder / "config.json").is_file() or not (folder / "adapter_config.json").is_file():
        return name, None
    config = _adapter_record(folder, "--model")
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base:
        raise UserError(
            f"--model {name}: adapter_config.json does not name its model ('base_model_name_or_path'); give "
            "the model with --model and this folder with --adapter"
        )
    beside = (folder / base).resolve()  # the repository's own adapters name their base by where it lies
    if beside.is_dir():
        return str(beside), folder
    return f"{base}@{revision}" if revision else base, folder


def _model_type(name: str) -> str:
    """The type in config.json, read before gigabytes of the wrong model are."""
    folder = Path(name)
    if folder == EMBEDDED and not (folder / "config.json").exists():
        raise UserError("the embedded model is not here; make it with `python -m pretrain.embedded`")
    id, revision = split_revision(name)
    looks_local = folder.exists() or folder.is_absolute() or name.startswith((".", "~")) or id.count("/") != 1
    if looks_local and not folder.is_dir():
        raise UserError(f"--model {name}: no such folder, and no hub id (owner/name) either")
    if looks_local and not (folder / "config.json").is_file():
        raise UserError(f"--model {name}: the folder has no config.json; give one made by save_pretrained")
    kind = PreTrainedConfig.get_config_dict(id, revision=revision or "main")[0].get("model_type")
    if kind not in ("paligemma", *qwen.TYPES):
        raise UserError(
            f"--model {name} is of type {kind!r}, not a PaliGemma, Qwen2-VL or Qwen2.5-VL; give one, "
            f"{PUBLISHED} for instance"
        )
    return kind


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn the libraries' errors about weights and hub into one line with its remedy."""
    try:
        yield
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"--model {name}: a file is damaged ({first_line(error)}); copy it again") from None
    except (OSError, ValueError) as error:  # ValueError: tokenizer or processor files missing
        if Path(name).is_dir():
            raise UserError(f"--model {name}: {first_line(error)}") from None
        id, revision = split_revision(name)
        there = " and that this revision is there" if revision else ""
        raise UserError(
            f"--model {name} cannot be fetched: it needs accepting its licence at huggingface.co/{id} and "
            f"`hf auth login`, or a network{there}; or give a local folder with --model ({first_line(error)})"
        ) from None


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Peft 0.21 asks a model for `is_gradient_checkpointing`, which transformers 5.23 calls another name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _four_bits(dtype: torch.dtype, device: torch.device) -> BitsAndBytesConfig:
    if not devices.takes_four_bits(device):
        raise UserError("--load_in_4bit needs a CUDA device; leave it out here")
    if find_spec("bitsandbytes") is None:
        raise UserError("--load_in_4bit needs bitsandbytes: pip install bitsandbytes")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=KEPT_FROM_4BIT,
    )


# ---- adapters

HEADS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")  # PEFT's tasks whose models answer with a head of their own


def _check_adapter(folder: Path, flag: str) -> None:
    """Check that an adapter is one that this model could have, before its base is loaded.

    Raises:
        UserError: a missing or damaged file, or an adapter of another kind; the message names `flag`.
    """
    name = f"{flag} {folder}"
    for file in ("adapter_config.json", WEIGHTS):
        if not (folder / file).is_file():
            hint = "give the folder that training saved"
            if within := sorted(folder.glob(f"*/**/{WEIGHTS}"))[:1]:
                hint = f"give {within[0].parent}"
            elif any(folder.glob("model*.safetensors")):
                hint = f"this is a whole model: give it with --model, without {flag}"
            elif any(folder.glob("adapter_model*-of-*.safetensors")):
                hint = "its weights are in several files, which is not read; save them again in one"
            elif (folder / "adapter_model.bin").is_file():
                hint = "pickled weights are not opened; save them again with save_pretrained"
            raise UserError(f"{name}: no {file} there; {hint}")
    record = _adapter_record(folder, flag)
    if not isinstance(record.get("peft_type"), str):
        raise UserError(
            f"{name}: adapter_config.json has no 'peft_type'; give the folder that training saved"
        )
    rank, alpha = record.get("r", 1), record.get("lora_alpha", 1)
    if record["peft_type"] == "LORA" and type(rank) is not int:
        _wrong_field(name, "r", rank, "a whole number")
    if record["peft_type"] == "LORA" and not (type(alpha) in (int, float) and math.isfinite(alpha)):
        _wrong_field(name, "lora_alpha", alpha, "a number")
    try:
        config = PeftConfig.from_pretrained(str(folder))
        with safe_open(folder / WEIGHTS, "pt") as weights:
            names = list(weights.keys())
            wrong = next(filter(None, (_fault(key, weights.get_tensor(key)) for key in names)), None)
    except SafetensorError as error:
        raise UserError(f"{name}: {WEIGHTS} is damaged ({first_line(error)}); copy it again") from None
    except (ValueError, KeyError, TypeError) as error:  # KeyError: a type that this PEFT does not know
        raise UserError(f"{name}: adapter_config.json cannot be used ({first_line(error)})") from None
    if not names:
        raise UserError(f"{name}: {WEIGHTS} holds no weights; give the folder that training saved")
    if wrong:
        raise UserError(f"{name}: its weight {wrong}; give an adapter as training saved it")
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise UserError(f"{name} is of type {config.peft_type.value}, which adds to prompts; give a LoRA")
    if config.task_type in HEADS:
        raise UserError(f"{name} is for {config.task_type}, not for writing answers; give another")


def _wrong_field(name: str, field: str, value: object, kind: str) -> NoReturn:
    raise UserError(
        f"{name}: adapter_config.json has '{field}' {shown(value)}, and it must be {kind}; copy it again"
    )


def _fault(key: str, weight: torch.Tensor) -> str | None:
    if not weight.is_floating_point():  # quantized, and its scales are not here
        return f"{key} is of {str(weight.dtype).removeprefix('torch.')}, not of a floating type"
    return None if weight.float().isfinite().all() else f"{key} is not finite"


def _adapter_record(folder: Path, flag: str) -> dict[str, Any]:
    """The content of adapter_config.json. Raises UserError where that is no record that PEFT reads."""
    file = folder / "adapter_config.json"
    if json.detect_encoding(file.read_bytes()) != "utf-8":
        raise UserError(
            f"{flag} {folder}: adapter_config.json is not plain UTF-8; save it as UTF-8 without a byte order "
            "mark"
        )
    record = text_files.json_value(file)
    if not isinstance(record, dict):
        raise UserError(f"{flag} {folder}: adapter_config.json is no record; copy it again")
    return record


def _with_adapter(model, folder: Path, trainable: bool, flag: str) -> PeftModel:
    name = f"{flag} {folder}"
    try:
        with _without_deprecations(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # refused below
            adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
            # Again, for what came of it, which `from_pretrained` keeps to itself.
            result = adapted.load_adapter(str(folder), "default", is_trainable=trainable)
    except KeyError as error:  # a module that is saved whole
        raise UserError(f"{name} does not fit the model: it has no weight {error}") from None
    except (TypeError, AttributeError, IndexError, ImportError) as error:  # fields of other types
        raise UserError(f"{name}: adapter_config.json cannot be used ({first_line(error)})") from None
    except (RuntimeError, ValueError, re.error) as error:  # other shapes, or layers that are not there
        lines = str(error).splitlines()
        reason = next((line.strip() for line in lines if "size mismatch" in line), first_line(error))
        raise UserError(f"{name} does not fit the model: {reason}") from None
    weights = load_file(folder / WEIGHTS)
    base = weights_name(model)
    remedy = f"train it for this model or remove {flag}"
    if homeless := result.unexpected_keys:
        raise UserError(
            f"{name}: {len(homeless)} of its {len(weights)} weights have no place in {base}, first "
            f"{homeless[0]}; {remedy}"
        )
    if missing := result.missing_keys:
        raise UserError(
            f"{name}: beside its {len(weights)} weights, {len(missing)} more have a place in {base} and are "
            f"missing, first {missing[0]}; {remedy}"
        )
    zero = [half for half in ("lora_A", "lora_B") if _all_zero(weights, half)]  # their product is added
    config = adapted.peft_config["default"]
    if getattr(config, "lora_alpha", 1) == 0 and not config.alpha_pattern:
        untrained = "lora_alpha is 0"
    else:
        untrained = f"all {zero[0]} are 0" if zero else ""
    if untrained and distributed.state().is_main_process:
        print(f"{name} is untrained ({untrained}): it changes no answer", flush=True)
    return adapted


def _all_zero(weights: dict[str, torch.Tensor], half: str) -> bool:
    parts = [tensor for key, tensor in weights.items() if half in key]
    return bool(parts) and not any(tensor.any() for tensor in parts)
