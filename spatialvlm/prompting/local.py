"""A model in this process as the client of a study: a PaliGemma, or a Qwen by its template.

PaliGemma has no turns of a conversation: all pictures come first, then the texts of all turns in their order,
a line each, those of several turns marked `User:` and `Assistant:`. One turn is its text as it is, so that
`direct` asks exactly what `eval_paligemma_*.py` ask.

A picture goes through the vision tower once, however many queries show it. Prompts are not shared further:
PaliGemma reads a prompt both ways, so two prompts that begin alike have no keys and values in common.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from spatialvlm.errors import UserError
from spatialvlm.example import open_image
from spatialvlm.models import inputs, qwen, rollout
from spatialvlm.prompting.strategy import Conversation, Dialogue, Message, Reply

FEATURES_KEPT = 512  # pictures whose features stay


class LocalClient:
    """Answers greedily, `batch_size` conversations at a time, which changes no answer."""

    def __init__(self, model, processor, max_new_tokens: int, batch_size: int = 16):
        self.model, self.processor = model, processor
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        self._features: OrderedDict[str, Tensor] = OrderedDict()
        self._seen = 0
        self._answered = False

    def talk(self, conversations: Iterable[tuple[str, Conversation]]) -> Iterator[tuple[str, Dialogue]]:
        """Batches of conversations, query by query.

        Raises:
            UserError: queries that are all too long for the model, a broken picture, too little memory.
        """
        rest = iter(conversations)
        while part := list(islice(rest, self.batch_size)):
            replies: dict[str, list[Reply]] = {id: [] for id, _ in part}
            open_ = [(id, conversation, next(conversation)) for id, conversation in part]
            while open_:
                answers = self.reply([messages for _, _, messages in open_])
                going_on = []
                for (id, conversation, _), answer in zip(open_, answers, strict=True):
                    replies[id].append(answer)
                    try:
                        going_on.append((id, conversation, conversation.send(answer.text)))
                    except StopIteration as end:
                        yield id, Dialogue(end.value, tuple(replies[id]))
                open_ = going_on

    def facts(self) -> dict[str, int]:
        """How many pictures went through the vision tower; all others were shown again."""
        return {"pictures_encoded": self._seen}

    @torch.no_grad()
    def reply(self, queries: Sequence[Sequence[Message]]) -> list[Reply]:
        """A reply to each query; an empty one, `too long`, where it and a reply are more than the window."""
        images = [[open_image(i) for message in query for i in message.images] for query in queries]
        if isinstance(self.processor, qwen.ChatProcessor):
            batch = encode_chat(self.processor, queries, images)
        else:
            batch = inputs.encode(self.processor, [flatten(query) for query in queries], images)
        prompt_tokens = batch.attention_mask.sum(1).tolist()
        fitting = self._fitting(prompt_tokens)
        if len(fitting) < len(queries):
            answers = iter(self.reply([queries[row] for row in fitting]) if fitting else ())
            return [
                next(answers) if row in fitting else Reply("", "too long", tokens, 0)
                for row, tokens in enumerate(prompt_tokens)
            ]
        try:
            batch = self._with_features(batch.to(self.model.device), [i for each in images for i in each])
            found = rollout.sample(
                self.model, batch, 1, self.max_new_tokens, temperature=0, seeds=[0] * len(queries)
            )
        except torch.OutOfMemoryError:
            raise UserError(
                f"too little memory for {len(queries)} conversations at a time; use a smaller --concurrency"
            ) from None
        self._answered = True
        made, last = found.mask[:, 0].sum(1).tolist(), found.tokens[:, 0]
        return [
            Reply(
                text,
                "stop" if batch.vocabulary.eos in last[row, : made[row]] else "length",
                prompt_tokens[row],
                made[row],
            )
            for row, (text,) in enumerate(rollout.decode(self.processor, found))
        ]

    def _fitting(self, prompt_tokens: Sequence[int]) -> list[int]:
        """The queries that the model's window holds together with a reply. Raises UserError where none of the
        first ones is."""
        window = getattr(self.model.config.get_text_config(), "sliding_window", None)
        if window is None:
            return list(range(len(prompt_tokens)))
        fitting = [row for row, tokens in enumerate(prompt_tokens) if tokens + self.max_new_tokens <= window]
        if not fitting and not self._answered:
            raise UserError(
                f"a query of {min(prompt_tokens)} tokens and a reply of {self.max_new_tokens} are more than "
                f"the model's window of {window}; use fewer --shots or a smaller --max_new_tokens"
            )
        return fitting

    def _with_features(self, batch, images: Sequence[Image.Image]):
        """The batch with the features of its pictures, computed for those alone that are new."""
        names = [_name(image) for image in images]
        kept = {name: self._features[name] for name in names if name in self._features}
        for number, name in enumerate(names):
            if name not in kept:
                kept[name] = rollout.image_features(self.model, _alone(batch, number))
                self._seen += 1
        for name in names:
            self._features[name] = kept[name]
            self._features.move_to_end(name)
        while len(self._features) > FEATURES_KEPT:
            self._features.popitem(last=False)
        return replace(batch, features=torch.cat([kept[name] for name in names]))


def _name(image: Image.Image) -> str:
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def _alone(batch, number: int):
    """The batch with picture `number` alone, for the vision tower."""
    if isinstance(batch, qwen.QwenBatch):
        pictures = [picture for each in batch.pictures for picture in each]
        return replace(batch, pictures=((pictures[number],),))
    return replace(batch, pixel_values=batch.pixel_values[number : number + 1], image_counts=(1,))


def flatten(messages: Sequence[Message]) -> str:
    """A conversation as one text, for models without turns; its pictures go before it."""
    if len(messages) == 1:
        return messages[0].text
    turns = [f"{message.role.capitalize()}: {message.text}" for message in messages]
    return "\n".join([*turns, "Assistant:"])


def encode_chat(
    processor: qwen.ChatProcessor,
    queries: Sequence[Sequence[Message]],
    images: Sequence[Sequence[Image.Image | Path]],
) -> qwen.QwenBatch:
    """Conversations of several turns, texts and pictures in their order, by the model's own template.

    Raises:
        UserError: as `qwen.encode`.
    """
    said = ["\n".join(message.text for message in query) for query in queries]
    batch = qwen.encode(processor, said, images)  # pictures and checks; the texts are laid out below
    tokenizer, texts = processor.tokenizer, []
    for query, pictures in zip(queries, batch.pictures, strict=True):
        turns = [
            {
                "role": message.role,
                "content": [
                    {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                    for part in message.parts
                ],
            }
            for message in query
        ]
        text, *parts = tokenizer.apply_chat_template(
            turns, chat_template=processor.chat_template, add_generation_prompt=True, tokenize=False
        ).split(qwen.IMAGE)
        for picture, part in zip(pictures, parts, strict=True):
            text += qwen.IMAGE * qwen.tokens_of(picture, batch.merge_size) + part
        texts.append(text)
    ids = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    return replace(batch, input_ids=ids["input_ids"], attention_mask=ids["attention_mask"])
