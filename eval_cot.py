r"""Compare prompting strategies: the thirteen of paper A's study, on CV-Bench, SAT, VSR or CLEVR.

python eval_cot.py --strategy scene_graph            # GPU: PaliGemma 2 on CV-Bench; CPU: embedded
python eval_cot.py --strategy kshot_conversational --shots 4 --exemplars worked.jsonl --profile paper
python eval_cot.py --strategy optical_flow --benchmark sat
python eval_cot.py --strategy depth_map --data rows.parquet --depth depth/
OPENAI_API_KEY=... python eval_cot.py --strategy program_of_thought --profile paper \
    --base_url http://localhost:8000/v1 --model Qwen/Qwen2.5-VL-7B-Instruct --price_in 0.2 --price_out 0.6

Prints accuracy by task, counts of what the replies were like (broken graphs, failed programs, cut-off
replies, tokens, cost), and the measured row above the paper's rows. docs/prompting.md quotes every prompt.
To resume a stopped study, run the same command again: answers stay in the run folder and a server's replies
in its cache, so that no request is paid for twice.

A study is one process; a larger --concurrency keeps a server busy. The embedded model never learnt to
converse: `direct` scores as in the other evaluations, and the rest shows that everything runs. Its 200
questions take 1 to 2 minutes on 2 CPU cores.
Published: 6.1 GB model, 0.4 GB data (CV-Bench); 7 GB of disk, 4 GB of memory, 7.5 GB on the GPU.
"""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from spatialvlm import cli, distributed
from spatialvlm.errors import UserError, require_at_least
from spatialvlm.evaluation.evaluate import MAY_DIFFER
from spatialvlm.evaluation.summary import table
from spatialvlm.models import loading
from spatialvlm.papers import prompting_study
from spatialvlm.prompting import exemplars, study
from spatialvlm.prompting.local import LocalClient
from spatialvlm.prompting.server import Cache, ServerArgs, ServerClient
from spatialvlm.prompting.strategies import STRATEGIES
from spatialvlm.prompting.strategy import Aids, Exemplar, Strategy
from spatialvlm.run_folder import Run, fingerprint

# Arguments that change no answer, and so may differ when a study is resumed.
NO_MATTER = (
    *(*MAY_DIFFER, "concurrency", "cache_dir", "timeout", "max_attempts"),
    *("price_in", "price_out", "retry_refused"),
)


@dataclass
class Args(ServerArgs, loading.ModelArgs):
    BY_PROFILE: ClassVar = {  # the embedded model's context holds little more
        "shots": {"paper": 4, "embedded": 1},
        "max_new_tokens": {"paper": 512, "embedded": 48},
    }
    strategy: str = field(default="direct", metadata={"help": f"one of {', '.join(STRATEGIES)}"})
    benchmark: Literal["cvbench", "sat", "vsr", "clevr"] = field(
        default="cvbench", metadata={"help": "benchmark of the questions"}
    )
    data: str | None = field(
        default=None, metadata={"help": "hub id, file, folder, or 'embedded'; by profile where not given"}
    )
    split: str | None = field(
        default=None, metadata={"help": "split of the data set; its test split by default"}
    )
    limit: int | None = field(default=None, metadata={"help": "maximum number of questions"})
    shots: int | None = field(
        default=None, metadata={"help": "number of worked examples, for strategies that take some"}
    )
    exemplars: str | None = field(
        default=None, metadata={"help": "file of worked examples; rendered ones in the embedded profile"}
    )
    depth: str | None = field(
        default=None,
        metadata={
            "help": "folder of depth maps, <id>.png: near objects bright, or distances in 16 bits (0 and "
            "65535: not measured); rendered ones where not given"
        },
    )
    image_folder: str | None = field(default=None, metadata={"help": "folder of COCO's images, for VSR"})
    max_new_tokens: int | None = field(
        default=None, metadata={"help": "maximum length of a reply, in tokens"}
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "run folder; results/eval_cot/<run_name> where not given"}
    )
    run_name: str | None = field(
        default=None, metadata={"help": "name of the run folder; follows from the arguments where not given"}
    )
    rule: Literal["strict", "official", "paper"] = field(
        default="strict", metadata={"help": "who parses: ours, the benchmark's authors, or paper A"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, limit=self.limit, max_new_tokens=self.max_new_tokens)
        require_at_least(0, shots=self.shots)
        if self.strategy not in STRATEGIES:
            raise UserError(f"--strategy {self.strategy!r}: there are {', '.join(STRATEGIES)}")
        if self.base_url and not self.model:
            raise UserError("--base_url needs --model, the model's name on that server")
        if self.base_url and (self.adapter or self.load_in_4bit):
            raise UserError("--adapter and --load_in_4bit are for local models, not for --base_url")
        if self.retry_refused and not self.base_url:
            raise UserError("--retry_refused is for servers (--base_url)")


def worked_examples(args: Args, strategy: Strategy) -> tuple[Exemplar, ...]:
    """`args.shots` examples, for strategies that take some."""
    if strategy.exemplars == "needed" and not args.shots:
        raise UserError(f"--strategy {strategy.name} needs --shots of 1 or more")
    if not args.shots:
        return ()
    if args.exemplars:
        return exemplars.from_file(args.exemplars, args.shots, strategy.images)
    if args.data != "embedded":
        raise UserError(f"--strategy {strategy.name} needs worked examples: give a file with --exemplars")
    return exemplars.embedded(args.benchmark, args.shots, two_images=strategy.images == 2)


def open_run(args: Args, weights: str) -> Run:
    """The run folder, named after what its answers depend on."""
    config = asdict(args) | {"script": "eval_cot", "weights": Path(weights).name}
    config |= {"weights_state": None if args.base_url else fingerprint(weights)}
    for name in ("adapter", "data", "exemplars", "depth"):
        config[f"{name}_state"] = fingerprint(getattr(args, name)) if getattr(args, name) else None
    decisive = {name: value for name, value in config.items() if name not in NO_MATTER}
    code = hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()[:8]
    name = args.run_name or f"{args.benchmark}-{args.strategy}-{Path(weights).name}-{code}"
    strategy = STRATEGIES[args.strategy]
    data = study.source(args.benchmark, strategy, args.data, args.split, args.limit, args.image_folder)
    folder = args.output_dir or Path("results", Path(sys.argv[0]).stem, name)
    return Run(folder, config, NO_MATTER, data=data)


def main(args: Args) -> dict:
    if distributed.state().num_processes > 1:
        raise UserError("a prompting study runs as one process; start it without a launcher")
    profile, reason = loading.resolve_profile(args)
    strategy = STRATEGIES[args.strategy]
    if strategy.exemplars == "none" and (args.shots or args.exemplars):
        raise UserError(f"--strategy {strategy.name} takes no examples: leave out --shots, --exemplars")
    # The small defaults are the embedded model's own; a model that is named holds more.
    size = "embedded" if profile == "embedded" and not (args.base_url or args.model) else "paper"
    args.max_new_tokens = args.max_new_tokens or Args.BY_PROFILE["max_new_tokens"][size]
    if args.shots is None and strategy.exemplars == "needed":
        args.shots = Args.BY_PROFILE["shots"][size]
    elif args.shots is None and strategy.exemplars == "some":
        args.shots = 0
    args.data = args.data or ("embedded" if profile == "embedded" else study.HUB_IDS[args.benchmark])
    if args.base_url:
        print(f"profile: {profile} ({reason}); {args.model} at {args.base_url}", flush=True)
    else:
        loading.require_device(args)

    shown = worked_examples(args, strategy)
    examples, benchmark = study.load(
        args.benchmark, strategy, args.data, args.split, args.limit, args.image_folder
    )
    rule = benchmark.rules[args.rule]
    gold = study.parse_gold(examples, rule, benchmark.title)  # before there is a folder: bad rows leave none
    aids = Aids(shown, exemplars.depth_maps(args.depth, examples) if strategy.depth else None)
    if args.base_url:
        folder, name = open_run(args, args.model), args.model
        cache = Cache(args.cache_dir or folder.folder / "cache")
        client = ServerClient(args, args.model, cache, args.max_new_tokens, args.seed)
    else:
        model, processor = loading.load(args)
        weights = loading.weights_name(model)
        folder, name = open_run(args, weights), Path(loading.split_revision(weights)[0]).name
        client = LocalClient(model, processor, args.max_new_tokens, args.concurrency)

    prices = (args.price_in, args.price_out)
    summary = study.run(
        client, examples, gold, strategy, aids, benchmark, rule, folder, prices, args.retry_refused
    )
    print(f"{table(summary)}\n{study.counts_text(summary['strategy'])}\n")
    print(prompting_study.beside(args.benchmark, name, summary))
    print(f"written to {folder.folder}", flush=True)
    return summary


if __name__ == "__main__":
    cli.run(main, Args)
