"""The command line that every script shares: one dataclass of flags, YAML by `--config`, one-line errors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from spatialvlm.errors import UserError

# Advises, before anything of ours is printed, a kernel for 4 bit on the CPU, which nothing here uses.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def defaults_by_profile(args_class: type) -> dict[str, dict[str, Any]]:
    """Defaults that --profile decides, {flag: {"paper": ..., "embedded": ...}}: each class's `BY_PROFILE`.

    A subclass's entries take precedence over those of its bases.
    """
    defaults: dict[str, dict[str, Any]] = {}
    for each in reversed(args_class.__mro__):
        defaults |= vars(each).get("BY_PROFILE", {})
    return defaults


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
    """Parses flags into `args_class` (a dataclass) and calls `main(args)`.

    A `UserError`, from anywhere below, ends in one line on stderr and exit code 2, without a traceback;
    Ctrl-C in exit code 130. `--config file.yaml` sets flags that the command line may override; where it is
    not given, `default_config` names the file for the --profile that is.
    """
    import yaml
    from trl import TrlParser  # imported late: `--help` of a script without models stays quick

    from spatialvlm import distributed

    if argv is None:
        distributed.start_the_others()
    try:
        argv = _split_equals(sys.argv[1:] if argv is None else argv)
        if default_config and "--config" not in argv:
            profile = argv[argv.index("--profile") + 1 :][:1] if "--profile" in argv else []
            argv = ["--config", str(default_config(*profile or ["auto"])), *argv]
        parser = TrlParser(args_class, description=sys.modules[main.__module__].__doc__)
        parser.error = _refuse  # one line for a flag's bad value too, where argparse prints its whole usage
        try:
            (args,) = parser.parse_args_and_config(argv)
        except yaml.YAMLError as error:
            where = argv[argv.index("--config") + 1]
            raise UserError(f"--config {where} is no YAML: {' '.join(str(error).split())}") from None
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from None
        try:
            found = main(args)
        except (UserError, SystemExit):  # all processes end so, or none
            distributed.part()
            raise
        distributed.part()
        return found
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        # Another training of the same name would start afresh; the others come back to their folder.
        again = "the same command with --resume" if hasattr(args_class, "resume") else "the same command"
        print(f"stopped; run {again} to continue where it stopped", file=sys.stderr)
        raise SystemExit(130) from None
