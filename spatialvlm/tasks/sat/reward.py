"""Rewards: short pure functions of a completion and the gold answer."""

from __future__ import annotations

from spatialvlm.parsing.answers import last_line, normalized


def accuracy(completion: str, answer: str) -> float:
    """1.0 for the answer itself, 0.0 for another, -0.2 for an empty completion.

    Compared after removing `( ) . , -`, blanks around words and case; of several lines only the last one
    counts. This is the reward of the published "No-Thinking" GRPO runs on SAT with PaliGemma
    2, and an exact match on purpose: a reward that digs the answer out of longer texts teaches longer texts.
    """
    if not completion.strip():
        return -0.2
    return float(last_line(completion) == normalized(answer))
