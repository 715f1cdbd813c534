"""vsGRPO: Qwen2-VL learns to see in space from VSI-100k's questions, by GRPO with rewards for right numbers.

python model/vsi_grpo.py                               # GPU: Qwen2-VL 2B on VSI-100k, as published (vanilla)
                                                       # CPU: the embedded model on rendered rooms
python model/vsi_grpo.py --config runs/vsgrpo_2b_t.yaml
                                                       # another published run; any flag over it
python model/vsi_grpo.py --prompt think --max_completion_length 256
                                                       # thoughts, then the answer, in tags; or observe
python model/vsi_grpo.py --reward mra                  # VSI-Bench's own score of numbers as their reward
python model/vsi_grpo.py --families object_counting    # the other families are held out
python model/vsi_grpo.py --resume                      # resumes the newest run
accelerate launch model/vsi_grpo.py                    # several GPUs; runs/accelerate/ has more

With a GPU, make the data first (make_data/vsi_100k.py, with --leave_out nyu-visionx/VSI-Bench: no room that
is tested may be trained on). VSI-Bench's videos are fetched (5.7 GB) where --eval_frames does not give them.
Prints the scores by family before and after, and below them the trained model's with the videos shuffled. Of
think and observe every step also has the fraction of completions in the `format`, and of `empty_thoughts` (of
several processes those of the first).
Published: 4.4 GB model, 5.7 GB data (VSI-Bench); 20 GB of disk, 6 GB of memory, 9.0 GB on the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from spatialvlm import cli
from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.models import loading
from spatialvlm.papers import vsi
from spatialvlm.papers.vsi import VSIArgs, VSIExperiment
from spatialvlm.tasks.vsi import reward as rewards_vsi
from spatialvlm.tasks.vsi.data import Mode
from spatialvlm.training import grpo, loop

IN_TAGS = 24  # tokens: four tags take some 15, and something should stand in them


@dataclass
class Args(VSIArgs, grpo.GRPOArgs):
    prompt: Mode = field(
        default="vanilla", metadata={"help": "the short answer alone, or after thoughts or an observation"}
    )
    reward: rewards_vsi.Numbers = field(
        default="relative", metadata={"help": "of numbers: from the relative error, as published, or mra"}
    )
    num_generations: int = field(default=14, metadata={"help": "completions per prompt (a group)"})
    learning_rate: float = field(default=1e-5, metadata={"help": "learning rate of AdamW"})
    beta: float = field(default=1e-4, metadata={"help": "weight of the KL term; 0 collapses, as published"})
    dynamic_sampling: bool = field(
        default=False, metadata={"help": "replace groups whose rewards are all equal by fresh prompts"}
    )
    gradient_accumulation_steps: int = field(
        default=8, metadata={"help": "forward passes per step; a step has as many prompts as both make"}
    )
    max_completion_length: int = field(default=16, metadata={"help": "longest completion, in tokens"})

    def check(self) -> None:
        """Raise UserError naming the first invalid argument."""
        super().check()
        if self.prompt != "vanilla" and self.max_completion_length < IN_TAGS:
            raise UserError(
                f"--max_completion_length {self.max_completion_length}: the tags of --prompt {self.prompt} "
                f"alone fill that, so nothing could be right; give at least {IN_TAGS} (published runs: 256)"
            )


def main(args: Args) -> None:
    args.check()
    train_set = vsi.training_set(args)
    model, processor = vsi.load_model(args)
    experiment = VSIExperiment("vsi_grpo", args, model, args.prompt, args.max_completion_length, train_set)
    train_set = vsi.with_prompt(train_set, args.prompt)
    base = experiment.test_base(model, processor)

    def reward(completion: str, example: Example) -> float:
        return rewards_vsi.reward(completion, example, args.prompt, args.reward)

    def log(row: dict[str, float], trainer: grpo.Trainer) -> None:
        texts = [text for group in trainer.collected.first_round for text in group.texts]
        experiment.log(row | rewards_vsi.habits(texts, args.prompt), trainer)

    model = loop.add_adapter(model, args)
    trainer = grpo.Trainer(model, processor, train_set, reward, args)
    loop.train(trainer, log, experiment.checkpoints, experiment.resume)
    experiment.finish(base, model, processor)


if __name__ == "__main__":
    cli.run(main, Args, default_config=partial(loading.config_for, "vsgrpo_2b_v.yaml"))
