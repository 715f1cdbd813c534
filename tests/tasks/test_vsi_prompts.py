"""The prompts of vsGRPO: the published sentences word for word, and tags named where they are rewarded."""

import pytest

from spatialvlm.tasks.vsi import data as vsibench

QUESTION = "How many chair(s) are in this room?"


def test_published_sentences():
    lines = vsibench.training_prompt(QUESTION, "vanilla").splitlines()
    assert lines == [QUESTION, "Please provide the short answer with one or two words or a number."]
    think = vsibench.evaluation_request("think")
    assert think == "Let's think step by step and then answer the question using a single word or phrase."
    observe = vsibench.evaluation_request("observe")
    assert observe.startswith("Please observe the video first and then answer ")
    vanilla = vsibench.prompt(QUESTION)
    assert vanilla.splitlines() == [
        vsibench.FRAMES,
        QUESTION,
        "Please answer the question using a single word or phrase.",
    ]


def test_lettered_options_are_asked_for_as_vsibench_does():
    before = f"{vsibench.FRAMES}\nWhich?\nOptions:\nA. sink\nB. sofa"
    prompts = [vsibench.prompt("Which?", ("sink", "sofa"), mode) for mode in vsibench.MODES]
    assert prompts[0] == f"{before}\nAnswer with the option's letter from the given choices directly."
    assert all(prompt.startswith(before) and "option's letter" in prompt for prompt in prompts)
    assert len(set(prompts)) == 3


@pytest.mark.parametrize("mode", vsibench.MODES)
def test_training_names_the_tags_that_are_rewarded(mode):
    request = vsibench.training_prompt(QUESTION, mode).removeprefix(f"{QUESTION}\n")
    tags = {tag for tag in ("think", "observe", "answer") if f"<{tag}>" in request and f"</{tag}>" in request}
    assert tags == (set() if mode == "vanilla" else {mode, "answer"})
    assert "number" in request


def test_another_mode_is_refused():
    with pytest.raises(KeyError):
        vsibench.training_prompt(QUESTION, "dream")
