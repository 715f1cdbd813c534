"""Whether questions with their pictures fit into a model: many frames and long answers may not."""

from __future__ import annotations

from collections.abc import Sequence

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.models import rollout


def check(model, processor, examples: Sequence[Example], max_new_tokens: int) -> None:
    """Of each source of pictures (`meta["source"]`), which differ in size, the longest question must fit.

    Raises:
        UserError: with its answer it takes more tokens than the model's positions; or a picture is broken.
    """
    room = model.config.get_text_config().max_position_embeddings
    lengths = [len(ids) for ids in processor.tokenizer([each.prompt for each in examples])["input_ids"]]
    longest: dict[str | None, tuple[int, Example]] = {}
    for length, example in zip(lengths, examples, strict=True):
        source = example.meta.get("source")
        if source not in longest or length > longest[source][0]:
            longest[source] = length, example
    for _, example in longest.values():
        batch = rollout.encode(processor, [example.prompt], [example.images])
        taken = batch.input_ids.shape[1] + max_new_tokens
        if taken > room:
            raise UserError(
                f"question {example.id} takes {taken:,} tokens with its {len(example.images)} pictures and "
                f"an answer of {max_new_tokens:,}, and the model has room for {room:,}: give fewer or "
                "smaller frames (--num_frames; of Qwen --max_pixels), or a smaller --max_new_tokens"
            )
