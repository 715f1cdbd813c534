"""trl 1.16's GRPOTrainer on PaliGemma 2, with the least that makes it compute the right thing."""

from __future__ import annotations

import tempfile
from unittest.mock import patch

import torch
from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer
from ways import MAX_GRAD_NORM
from workload import BETA, LEARNING_RATE, WEIGHT_DECAY, Workload, reward

from spatialvlm.models import rollout

# Messages as text: images first, as PaliGemma has them; the processor adds <bos> and the newline itself.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


class PaliGemmaGRPO(GRPOTrainer):
    """GRPOTrainer with two faults corrected.

    Prompts of different lengths crash, because PaliGemma's processor cannot batch them without padding; and
    completion tokens get type 0, so they see each other.
    """

    def _tokenize_prompts(self, prompts):
        contents = [[part for message in prompt for part in message["content"]] for prompt in prompts]
        images = [[part["image"] for part in content if part["type"] == "image"] for content in contents]
        texts = [
            "".join("<image>" if part["type"] == "image" else part["text"] for part in content)
            for content in contents
        ]
        padded = self.processing_class(images=images, text=texts, padding=True, return_tensors="pt")
        keep = padded["attention_mask"].bool()
        ids = [row[kept].tolist() for row, kept in zip(padded["input_ids"], keep, strict=True)]
        types = [[0] * len(row) for row in ids]  # the prompt sees all of itself
        return ids, images, {"pixel_values": padded["pixel_values"], "token_type_ids": types}

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, *args, token_type_ids=None, **kwargs
    ):
        types = torch.zeros_like(input_ids)
        types[:, -logits_to_keep:] = 1  # causal
        kwargs.pop("labels", None)  # PaliGemma's processor makes them; they are not the completions'
        return super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, token_type_ids=types, **kwargs
        )


class Trl:
    """GRPOTrainer's own `training_step` (sampling, rewards, reference, policy, backward) and the update.

    It runs without transformers' loop around it, whose logging and callbacks could only add to the time.
    Generation is its own: every prompt G times, all of a step in one batch. Gradient checkpointing is off, as
    in the other ways. The reference is the model without its adapter: GRPOTrainer copies the adapter that it
    is given to be the reference, and the copy is deleted.
    """

    def __init__(self, work: Workload, num_generations: int):
        self.work, self.num_generations = work, num_generations
        device = work.model.device
        self._folder = tempfile.TemporaryDirectory()  # GRPOTrainer makes an output folder, and stays empty
        args = GRPOConfig(
            output_dir=self._folder.name,
            use_cpu=device.type == "cpu",
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            weight_decay=WEIGHT_DECAY,
            max_grad_norm=MAX_GRAD_NORM,
            num_generations=num_generations,
            per_device_train_batch_size=work.prompts_per_pass * num_generations,
            gradient_accumulation_steps=work.passes,
            max_completion_length=work.completion_length,
            beta=BETA,
            loss_type="grpo",
            use_bias_correction_kl=False,  # trl 1.16 changes the KL term's gradient unless told not to
            temperature=1.0,
            gradient_checkpointing=False,
            bf16=False,  # the model's dtype is the workload's already
            report_to="none",
            seed=work.seed,
        )
        work.processor.chat_template = CHAT_TEMPLATE
        self.trainer = PaliGemmaGRPO(
            model=work.model,
            reward_funcs=lambda completions, **_: [reward(each[0]["content"]) for each in completions],
            args=args,
            train_dataset=Dataset.from_list([{"prompt": "unused: rows are handed to training_step"}]),
            processing_class=work.processor,
        )
        work.model.delete_adapter("ref")
        self.trainer.create_optimizer_and_scheduler(num_training_steps=1)
        self.trainer.current_gradient_accumulation_steps = work.passes
        self.optimizer = self.trainer.optimizer
        prompts = [
            {"prompt": [{"role": "user", "content": example.prompt}], "images": list(example.images)}
            for example in work.examples
        ]
        self.rows = [prompt for prompt in prompts for _ in range(num_generations)]

    def step(self) -> float:
        trainer = self.trainer
        losses = [trainer.training_step(trainer.model, self.rows, None) for _ in range(self.work.passes)]
        trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), MAX_GRAD_NORM)
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        trainer.optimizer.zero_grad()
        return torch.stack(losses).sum().item()

    def learn(self, completions: rollout.Completions) -> float:
        given = completions.tokens.flatten(0, 1).tolist(), None
        with patch.object(self.trainer, "_generate_single_turn", return_value=given):
            return self.step()

    @torch.no_grad()
    def logps(self, completions: rollout.Completions) -> Tensor:
        batch, (prompts, num_generations, length) = self.work.encode(), completions.tokens.shape
        repeated = [row for row in range(prompts) for _ in range(num_generations)]
        tokens = completions.tokens.flatten(0, 1)
        logps, _, _ = self.trainer._get_per_token_logps_and_entropies(
            self.trainer.model,
            torch.cat([batch.input_ids[repeated], tokens], 1),
            torch.cat([batch.attention_mask[repeated], torch.ones_like(tokens)], 1),
            length,
            pixel_values=batch.pixel_values[repeated],
            num_images=[1] * len(tokens),
        )
        return logps.view(prompts, num_generations, length)
