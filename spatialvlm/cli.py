"""The command line that every script shares: one dataclass of flags, YAML by `--config`, one-line errors."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import sys
import textwrap
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from spatialvlm.errors import UserError

# Notices that a user cannot act on; any other warning of these libraries still shows.
# bitsandbytes advises a kernel for 4 bit on the CPU, which nothing here uses.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
# transformers prepares images with PIL where torchvision is absent, as intended here.
logging.getLogger("transformers.utils.import_utils").addFilter(
    lambda record: "requires torchvision" not in record.getMessage()
)

# torch's warnings of a GPU that it cannot use, in many lines; `devices` says it in one.
for _beginning in ("CUDA initialization", "Found GPU", r"\s*.* with CUDA capability sm_"):
    warnings.filterwarnings("ignore", message=_beginning)

FIRST_SPEAKS = 30  # seconds that a launch's other processes leave the first one to name an error and end
ROOT = Path(__file__).resolve().parents[1]
# Flags that mean the same in every script, by the group of --help; the others are in their class's
# FLAG_GROUP.
GROUPS = {
    "data": "data split limit train_limit eval_data eval_limit image_folder",
    "run": "seed output_dir run_name batch_size num_workers eval_batch_size test_base resume save_steps "
    "save_total_limit report_to log_completions_steps",
}


def defaults_by_profile(args_class: type) -> dict[str, dict[str, Any]]:
    """Defaults that --profile decides, {flag: {"paper": ..., "embedded": ...}}: each class's `BY_PROFILE`.

    A subclass's entries take precedence over those of its bases.
    """
    defaults: dict[str, dict[str, Any]] = {}
    for each in reversed(args_class.__mro__):
        defaults |= vars(each).get("BY_PROFILE", {})
    return defaults


# ---- --help


def help_text(args_class: type, doc: str, files: dict[str, Path | None]) -> str:
    """The script's docstring line by line, then its flags in groups, each with the default that applies.

    Args:
        files: the configuration of each profile, {"paper": ..., "embedded": ...}; the same for a --config
        given.
    """
    import yaml

    configs = {
        profile: yaml.safe_load(path.read_text(encoding="utf-8")) if path and path.is_file() else {}
        for profile, path in files.items()
    }
    configs = {profile: values | {"profile": "auto"} for profile, values in configs.items()}
    groups: dict[str, list[str]] = {}
    hints, by_profile = get_type_hints(args_class), defaults_by_profile(args_class)
    for field in dataclasses.fields(args_class):
        usual = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        paper, embedded = (
            config.get(field.name, by_profile.get(field.name, {}).get(profile, usual))
            for profile, config in configs.items()
        )
        flag = f"--{field.name} {_values(hints[field.name])}"
        text = field.metadata.get("help", "") + _default(paper, embedded)
        groups.setdefault(_group(args_class, field.name), []).append(_entry(flag, text))
    text = "YAML file of flags; the command line takes precedence" + _default(*files.values())
    groups.setdefault("run", []).extend([_entry("--config FILE", text), _entry("--help", "this text")])
    order = ["model", "data", "training", "GRPO", "evaluation"]
    names = sorted(groups, key=lambda name: order.index(name) if name in order else 99 + (name == "run"))
    parts = [doc.strip(), *(f"{name}:\n" + "\n".join(groups[name]) for name in names)]
    return "\n\n".join(parts) + "\n"


def _group(args_class: type, name: str) -> str:
    """The group of a flag: by its name, or of the class that first has it."""
    for group, names in GROUPS.items():
        if name in names.split():
            return group
    for each in reversed(args_class.__mro__):
        if dataclasses.is_dataclass(each) and name in {field.name for field in dataclasses.fields(each)}:
            return vars(each).get("FLAG_GROUP", "this script")
    raise AssertionError(name)


def _values(hint: Any) -> str:
    """How a flag's value is written: `INT`, `{a,b}`, `TEXT ...`."""
    if isinstance(hint, types.UnionType):  # X | None
        hint = next(each for each in get_args(hint) if each is not type(None))
    if get_origin(hint) is Literal:
        return f"{{{','.join(map(str, get_args(hint)))}}}"
    if get_origin(hint) is list:
        return f"{_values(get_args(hint)[0])} ..."
    return "[true|false]" if hint is bool else {int: "INT", float: "NUMBER"}.get(hint, "TEXT")


def _default(paper: Any, embedded: Any) -> str:
    if paper is dataclasses.MISSING:
        return " (required)"
    shown = [f"default: {_shown(paper)}"] if paper is not None else []
    shown += [f"embedded: {_shown(embedded)}"] if embedded != paper else []
    return f" ({'; '.join(shown)})" if shown else ""


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return str(value).replace(f"{ROOT}/", "")


def _entry(flag: str, text: str) -> str:
    width = min(shutil.get_terminal_size().columns, 110)
    lines = textwrap.wrap(text, width - 30, break_on_hyphens=False) or [""]
    if len(flag) > 26:
        lines.insert(0, "")
    return "\n".join(
        f"  {flag if not number else '':<26}  {line}".rstrip() for number, line in enumerate(lines)
    )


def _config_files(argv: list[str], default_config: Callable[[str], Path] | None) -> dict[str, Path | None]:
    if "--config" in argv:
        given = Path(*argv[argv.index("--config") + 1 :][:1])
        return {"paper": given, "embedded": given}
    return {name: default_config(name) if default_config else None for name in ("paper", "embedded")}


# ---- parsing


def _split_equals(argv: list[str]) -> list[str]:
    """`--config=x` as `--config x`, which is how the parser looks for it; likewise for --profile."""
    split: list[str] = []
    for word in argv:
        name, equals, value = word.partition("=")
        split.extend([name, value] if equals and name in ("--config", "--profile") else [word])
    return split


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; see --help")


def run(
    main: Callable[[Any], Any],
    args_class: type,
    argv: list[str] | None = None,
    default_config: Callable[[str], Path] | None = None,
) -> Any:
    """Parse flags into `args_class` (a dataclass) and call `main(args)`.

    A `UserError`, from anywhere below, ends in one line on stderr and exit code 2, without a traceback;
    Ctrl-C in exit code 130. A dataclass checks its values in `__post_init__` (`errors.require_at_least`).

    Args:
        default_config: where --config, the YAML file of flags that the command line may override, is not
            given: returns the file for the --profile that is.
    """
    words = _split_equals(sys.argv[1:] if argv is None else argv)
    doc = sys.modules[main.__module__].__doc__ or ""
    if {"--help", "-h"} & set(words):
        print(help_text(args_class, doc, _config_files(words, default_config)), end="")
        raise SystemExit(0)

    from spatialvlm import distributed  # imported late: --help stays quick

    if argv is None:
        distributed.start_processes()
    import yaml
    from trl import TrlParser

    argv = words
    try:
        if default_config and "--config" not in argv:
            profile = argv[argv.index("--profile") + 1 :][:1] if "--profile" in argv else []
            argv = ["--config", str(default_config(*profile or ["auto"])), *argv]
        parser = TrlParser(args_class, add_help=False)
        parser.error = _refuse  # one line for a flag's bad value too, where argparse prints its whole usage
        try:
            args, *unknown = parser.parse_args_and_config(
                argv, return_remaining_strings=True, separate_remaining_strings=True
            )
        except yaml.YAMLError as error:
            where = argv[argv.index("--config") + 1]
            raise UserError(f"--config {where} is not YAML: {' '.join(str(error).split())}") from None
        except UnicodeDecodeError:
            where = argv[argv.index("--config") + 1]
            raise UserError(f"--config {where} is not UTF-8; save it as UTF-8") from None
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from None
        for place, words in zip(("--config names", "these are"), unknown, strict=True):
            if words:
                _refuse(f"{place} no flags of this script: {' '.join(words)}")
        result = main(args)
        distributed.leave()
        return result
    except SystemExit:  # all processes end so or by the same UserError, or none
        distributed.leave()
        raise
    except UserError as error:
        if int(os.environ.get("LOCAL_RANK", 0)) > 0:
            time.sleep(FIRST_SPEAKS)  # all read the same files: where all fail, the launcher ends this one
        said = str(error).replace("\0", "\\x00")  # of a name in a file, which terminals would pass over
        print(f"error: {said}", file=sys.stderr)
        distributed.leave()
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        # Another training of the same name would start afresh; the others come back to their folder.
        again = "the same command with --resume" if hasattr(args_class, "resume") else "the same command"
        print(f"stopped; run {again} to continue where it stopped", file=sys.stderr)
        raise SystemExit(130) from None
