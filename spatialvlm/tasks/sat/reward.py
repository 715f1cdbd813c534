"""Rewards: short pure functions of a completion and the gold answer."""

from __future__ import annotations

_IGNORED = str.maketrans("", "", "().,-")


def accuracy(completion: str, answer: str) -> float:
    """1.0 for the answer itself, 0.0 for another, -0.2 for an empty completion.

    Case, blanks around words and the characters `( ) . , -` do not count; of a completion of several lines
    only the last one does. This is the reward of the published "No-Thinking" GRPO runs on SAT with PaliGemma
    2, and an exact match on purpose: a reward that digs the answer out of longer texts teaches longer texts.
    """
    if not completion.strip():
        return -0.2
    return float(comparable(completion) == _normalised(answer))


def comparable(completion: str) -> str:
    """A completion's last line as `accuracy` compares it; empty for an empty completion."""
    lines = completion.strip().splitlines()
    return _normalised(lines[-1]) if lines else ""


def _normalised(text: str) -> str:
    return " ".join(text.translate(_IGNORED).lower().split())
