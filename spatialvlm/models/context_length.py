"""The remaining context: whether prompts with their images and a completion fit into a model."""

from __future__ import annotations

from collections.abc import Sequence

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.models import inputs, qwen


def maximum(model) -> int:
    """The most tokens of one sequence: the model's positions, or a sliding window that is smaller."""
    text = model.config.get_text_config()
    return min(
        getattr(text, "sliding_window", None) or text.max_position_embeddings, text.max_position_embeddings
    )


def require(model, length: int, what: str, remedy: str) -> None:
    """Raise UserError where `length` tokens are more than the context holds; `what` takes them."""
    if length > maximum(model):
        raise UserError(
            f"{what} takes {length:,} tokens, and the model has room for {maximum(model):,}: {remedy}"
        )


def require_rows(model, batch, examples: Sequence[Example], max_new_tokens: int) -> None:
    """Raise UserError naming the longest of a batch's examples where it does not fit with a completion."""
    lengths = batch.attention_mask.sum(1).tolist()
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    remedy = (
        "shorten or remove the row, use fewer or smaller images, or a smaller --max_new_tokens (in training "
        "--max_completion_length)"
    )
    what = f"row {examples[longest].id!r} with an answer of {max_new_tokens:,}"
    require(model, lengths[longest] + max_new_tokens, what, remedy)


def check(model, processor, examples: Sequence[Example], max_new_tokens: int, remedy: str) -> None:
    """Require that the longest prompt of each source fits with its images and a completion.

    Images differ in size between sources (`meta["source"]`), not within one.

    Raises:
        UserError: one does not fit, the message ends with `remedy`; or an image is missing or broken.
    """
    if not examples:  # more processes than questions
        return
    lengths = [len(ids) for ids in processor.tokenizer([each.prompt for each in examples])["input_ids"]]
    longest: dict[str | None, tuple[int, Example]] = {}
    for length, example in zip(lengths, examples, strict=True):
        source = example.meta.get("source")
        if source not in longest or length > longest[source][0]:
            longest[source] = length, example
    encode = qwen.encode if isinstance(processor, qwen.ChatProcessor) else inputs.encode
    for _, example in longest.values():
        length = encode(processor, [example.prompt], [example.images]).input_ids.shape[1] + max_new_tokens
        what = (
            f"question {example.id} with {len(example.images)} image(s) and an answer of {max_new_tokens:,}"
        )
        require(model, length, what, remedy)
