"""Client of a model in this process: PaliGemma, or Qwen by its chat template.

PaliGemma has no turns: all images come first, then the texts of all turns in order, marked `User:` and
`Assistant:` where there are several. A single turn is its text as it is, so that `direct` sends exactly what
`eval_paligemma_*.py` send.

An image goes through the vision tower once, however many queries show it. Prompts share nothing else:
PaliGemma attends to a prompt in both directions, so two that begin alike have no keys and values in common.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from spatialvlm.errors import UserError
from spatialvlm.images import open_image
from spatialvlm.models import context_length, inputs, qwen, rollout
from spatialvlm.models.halving import Halving
from spatialvlm.prompting.strategy import Conversation, Dialogue, Message, Reply

FEATURES_KEPT = 2**28  # bytes of image features that stay in memory, on the model's device


class LocalClient:
    """Answers greedily, `batch_size` conversations at a time, which changes no answer in float32."""

    patience = math.inf  # a first batch that is too long ends the study by itself

    def __init__(self, model, processor, max_new_tokens: int, batch_size: int = 16):
        self.model, self.processor = model, processor
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        self._halving = Halving(model, "concurrency", batch_size)
        self._features: OrderedDict[str, Tensor] = OrderedDict()
        self._encoded = 0
        self._answered = False

    def talk(
        self, conversations: Iterable[tuple[str, Conversation]]
    ) -> Generator[tuple[str, Dialogue], None, None]:
        """Hold all conversations in batches, query by query.

        Raises:
            UserError: the first queries are all too long, a broken image, too little memory.
        """
        rest = iter(conversations)
        while batch := list(islice(rest, self.batch_size)):
            replies: dict[str, list[Reply]] = {id: [] for id, _ in batch}
            running = [(id, conversation, next(conversation)) for id, conversation in batch]
            while running:
                answers = self.reply([messages for _, _, messages in running])
                continued = []
                for (id, conversation, _), answer in zip(running, answers, strict=True):
                    replies[id].append(answer)
                    try:
                        continued.append((id, conversation, conversation.send(answer.text)))
                    except StopIteration as end:
                        yield id, Dialogue(end.value, tuple(replies[id]))
                running = continued

    def facts(self) -> dict[str, int]:
        """Number of images that went through the vision tower."""
        return {"pictures_encoded": self._encoded}

    def reply(self, queries: Sequence[Sequence[Message]]) -> list[Reply]:
        """A reply to each query; an empty one, `too long`, where query and reply exceed the context."""
        try:
            return self._halving(self._reply, queries)
        except torch.OutOfMemoryError:
            raise UserError(
                "too little memory for one conversation at a time; use --load_in_4bit, fewer --shots or a "
                "smaller --max_new_tokens"
            ) from None

    @torch.no_grad()
    def _reply(self, queries: Sequence[Sequence[Message]]) -> list[Reply]:
        images = [[open_image(image) for message in query for image in message.images] for query in queries]
        batch: inputs.Batch | qwen.QwenBatch
        if isinstance(self.processor, qwen.ChatProcessor):
            batch = encode_chat(self.processor, queries, images)
        else:
            batch = inputs.encode(self.processor, [flatten(query) for query in queries], images)
        prompt_tokens = batch.attention_mask.sum(1).tolist()
        fitting = self._fitting(prompt_tokens)
        if len(fitting) < len(queries):
            answers = iter(self._reply([queries[row] for row in fitting]) if fitting else ())
            return [
                next(answers) if row in fitting else Reply("", "too long", tokens, 0)
                for row, tokens in enumerate(prompt_tokens)
            ]
        batch = self._with_features(batch.to(self.model.device), [i for each in images for i in each])
        completions = rollout.sample(
            self.model, batch, 1, self.max_new_tokens, temperature=0, seeds=[0] * len(queries)
        )
        self._answered = True
        lengths, tokens = completions.mask[:, 0].sum(1).tolist(), completions.tokens[:, 0]  # (B,), (B, T)
        texts = [text for (text,) in rollout.decode(self.processor, completions)]
        ended = [batch.vocabulary.eos in row[:length] for row, length in zip(tokens, lengths, strict=True)]
        return [
            Reply(text, "stop" if end else "length", prompt, length)
            for text, end, prompt, length in zip(texts, ended, prompt_tokens, lengths, strict=True)
        ]

    def _fitting(self, prompt_tokens: Sequence[int]) -> list[int]:
        """The queries that fit the context with a reply; raises UserError where none of the first fits."""
        lengths = [tokens + self.max_new_tokens for tokens in prompt_tokens]
        fitting = [row for row, length in enumerate(lengths) if length <= context_length.maximum(self.model)]
        if not fitting and not self._answered:
            remedy = "use fewer --shots or a smaller --max_new_tokens"
            context_length.require(self.model, min(lengths), "the shortest query with its reply", remedy)
        return fitting

    def _with_features(self, batch, images: Sequence[Image.Image]):
        """The batch with its images' features; only new images go through the vision tower."""
        names = [hashlib.sha256(f"{each.size}".encode() + each.tobytes()).hexdigest() for each in images]
        for number, name in enumerate(names):
            if name not in self._features:
                self._features[name] = rollout.image_features(self.model, _with_one_image(batch, number))
                self._encoded += 1
            self._features.move_to_end(name)
        features = torch.cat([self._features[name] for name in names])
        while sum(each.nbytes for each in self._features.values()) > FEATURES_KEPT:
            self._features.popitem(last=False)
        return replace(batch, features=features)


def _with_one_image(batch, number: int):
    """The batch with image `number` alone, for the vision tower."""
    if isinstance(batch, qwen.QwenBatch):
        visuals = [visual for each in batch.visuals for visual in each]
        return replace(batch, visuals=((visuals[number],),))
    return replace(batch, pixel_values=batch.pixel_values[number : number + 1], image_counts=(1,))


def flatten(messages: Sequence[Message]) -> str:
    """A conversation as one text, for models without turns; its images go before it."""
    if len(messages) == 1:
        return messages[0].text
    turns = [f"{message.role.capitalize()}: {message.text}" for message in messages]
    return "\n".join([*turns, "Assistant:"])


def encode_chat(
    processor: qwen.ChatProcessor,
    queries: Sequence[Sequence[Message]],
    images: Sequence[Sequence[Image.Image | Path]],
) -> qwen.QwenBatch:
    """Encode conversations by the model's own template, content in order; raises as `qwen.encode`."""
    texts = ["\n".join(message.text for message in query) for query in queries]
    conversations = [
        [{"role": message.role, "content": _content(message)} for message in query] for query in queries
    ]
    return qwen.encode(processor, texts, images, conversations=conversations)


def _content(message: Message) -> list[dict[str, str]]:
    return [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
        for part in message.parts
    ]
