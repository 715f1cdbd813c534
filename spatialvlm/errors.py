"""Errors that only the user can put right, and the checks of arguments that raise them."""

from __future__ import annotations

import math
from reprlib import Repr

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80


class UserError(Exception):
    """Something only the user can correct. Its message is one line: what is wrong, and what to do."""


class RowError(UserError):
    """A row of a data set that cannot be used; training may leave it out (`files.exclusion`).

    Args:
        message: one line naming the row, what is wrong, and what to do.
        reason: what is wrong in a few words, by which such rows are counted: `no 'question'`.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, reason)
        self.message, self.reason = message, reason

    def __str__(self) -> str:
        return self.message


def shown(value: object) -> str:
    """A value as messages show it: on one line, and short however large or deep it is."""
    return _SHORT.repr(value)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()


def require_at_least(minimum: int, **values: float | None) -> None:
    """Check numbers that flags set; None, a flag not given, passes.

    Raises:
        UserError: one is smaller, infinite or not a number; the message names the flag (the keyword).
    """
    for name, value in values.items():
        if value is not None and not minimum <= value < math.inf:
            raise UserError(f"--{name} must be at least {minimum}, not {value}")


def require_above_zero(**values: float | None) -> None:
    """Check numbers that flags set; None, a flag not given, passes.

    Raises:
        UserError: one is 0, negative, infinite or not a number; the message names the flag.
    """
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name} must be greater than 0, not {value}")
