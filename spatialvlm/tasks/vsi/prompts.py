"""How vsGRPO (arXiv 2504.00883) asks: three prompts of training and three of evaluation.

Published are the sentences of vanilla, and think's and (its beginning) observe's of evaluation for answers
in words and numbers. Of think and observe in training it is published that the reasoning stands in
`<think>`, the observation in `<observe>`, and the short answer in `<answer>`; the wording that asks for it is
ours. So are think's and observe's sentences for lettered options, which end with VSI-Bench's own request.
"""

from __future__ import annotations

from typing import Literal

Mode = Literal["vanilla", "think", "observe"]
MODES: tuple[Mode, ...] = ("vanilla", "think", "observe")

SHORT = "Please provide the short answer with one or two words or a number."  # published
TRAINING = {
    "vanilla": SHORT,
    "think": "Please think about the question first. Give your thoughts in <think> </think> and then the "
    "short answer, one or two words or a number, in <answer> </answer>.",
    "observe": "Please observe the video first. Give your observation in <observe> </observe> and then the "
    "short answer, one or two words or a number, in <answer> </answer>.",
}
PHRASE = "answer the question using a single word or phrase."
LETTER = "answer with the option's letter from the given choices directly."
EVALUATION = {  # what comes before PHRASE or LETTER
    "vanilla": "Please ",
    "think": "Let's think step by step and then ",
    "observe": "Please observe the video first and then ",
}


def training(question: str, mode: Mode) -> str:
    """The question, and below it how to answer. Raises KeyError for another mode."""
    return f"{question}\n{TRAINING[mode]}"


def evaluation(before: str, mode: Mode, letters: bool = False) -> str:
    """The prompt of an evaluation.

    Args:
        before: all lines above the request: what the frames are, the question, the options where there are.
        letters: asks for an option's letter, in VSI-Bench's words.

    Raises:
        KeyError: another mode.
    """
    request = EVALUATION[mode] + (LETTER if letters else PHRASE)
    if letters and mode == "vanilla":
        request = LETTER.capitalize()  # as VSI-Bench asks
    return f"{before}\n{request}"
