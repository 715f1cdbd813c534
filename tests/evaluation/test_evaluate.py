"""Evaluation: every question scored once, whatever the batches; stopped and resumed; records, tables."""

import json
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import torch
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.evaluation import evaluate, metrics
from spatialvlm.evaluation.benchmark import STRICT_CHOICE, STRICT_FREE, Benchmark, Rule, micro_and_mean
from spatialvlm.evaluation.evaluate import predict
from spatialvlm.evaluation.summary import table
from spatialvlm.example import Example
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.models import context_length, rollout

LETTERS = "AB"


def choice_examples(count: int) -> list[Example]:
    """Two-choice questions of two tasks, one image each."""
    return [
        Example(
            id=f"q{number}",
            images=(tiny.image(number),),
            question=f"how many red cubes are there ? {number % 10}",
            answer=f"({LETTERS[number % 2]})",
            task=("Count", "Depth")[number % 3 == 0],
            choices=("left", "right"),
            meta={"source": "COCO"},
        )
        for number in range(count)
    ]


@pytest.fixture
def scripted(monkeypatch):
    """Replaces the model by a function of (prompt, images), which gives one text or the list of all samples;
    returns the list of batch sizes asked for.
    """
    model = SimpleNamespace(device="cpu", config=SimpleNamespace(name_or_path="scripted"))

    def install(answer):
        sizes, asked, opened = [], [], []

        def said(prompt, images):
            texts = answer(prompt, images)
            return texts if isinstance(texts, list) else [texts]

        def encode(processor, prompts, images, cache):
            """First each question's own images, then a whole batch's names."""
            for image in images[0]:
                cache.get(image, lambda _: torch.zeros(1))
            if isinstance(images[0][0], Image.Image):
                opened.append(images[0])
                return None
            asked[:] = zip(prompts, opened, strict=True)
            opened.clear()
            sizes.append(len(prompts))
            return SimpleNamespace()

        features = SimpleNamespace(of=lambda batch, images: batch)
        monkeypatch.setattr(evaluate, "Features", lambda model: features)
        monkeypatch.setattr(rollout, "encode", encode)
        monkeypatch.setattr(context_length, "require_rows", lambda *arguments: None)
        monkeypatch.setattr(rollout, "sample", lambda *arguments, **options: None)
        monkeypatch.setattr(rollout, "decode", lambda *arguments: [said(*each) for each in asked])
        return model, sizes

    return install


@pytest.fixture(scope="module")
def talkative():
    """A tiny model whose output weights are not its input embeddings, else it repeats the last token."""
    model, processor = tiny.paligemma()
    torch.manual_seed(1)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    return model, processor


def gold_of(examples):
    by_prompt = {example.prompt: example.answer for example in examples}
    return lambda prompt, images: by_prompt[prompt]


def arguments(folder, **changed) -> evaluate.Args:
    return evaluate.Args(output_dir=str(folder), batch_size=4, max_new_tokens=3, **changed)


@pytest.mark.parametrize("name", ["limit", "batch_size", "max_new_tokens", "num_samples"])
def test_sizes_below_1_are_refused(name):
    with pytest.raises(UserError, match=f"--{name} must be at least 1, not 0"):
        evaluate.Args(**{name: 0})


def bench(rule=STRICT_CHOICE, aggregate=micro_and_mean) -> Benchmark:
    return Benchmark("bench", None, {"strict": rule}, aggregate)


def run(model, examples, args, benchmark=None, processor=None):
    _, summary = evaluate.run(model, processor, examples, benchmark or bench(), args)
    return summary


# ---- predict


def test_every_question_is_answered_once_in_order_and_the_last_batch_stays(scripted):
    examples = choice_examples(10)
    model, sizes = scripted(gold_of(examples))
    records = predict(model, None, examples, batch_size=4)
    assert [record["id"] for record in records] == [example.id for example in examples]
    assert sizes == [4, 4, 2] and all(record["correct"] for record in records)


def test_a_record_holds_question_and_answer(scripted):
    examples = choice_examples(2)
    model, _ = scripted(lambda prompt, images: "The answer is B.")
    assert predict(model, None, examples)[0] == {
        "id": "q0",
        "task": "Depth",
        "prompt": examples[0].prompt,
        "completions": ["The answer is B."],
        "parsed": "B",
        "gold": "A",
        "correct": False,
        "num_choices": 2,
        "source": "COCO",
    }


def test_a_record_of_several_samples_counts_the_right_ones(scripted):
    examples = choice_examples(2)
    model, _ = scripted(lambda prompt, images: ["The answer is A.", "B", "(A)", "neither"])
    first, second = predict(model, None, examples, num_samples=4)
    assert first["completions"] == ["The answer is A.", "B", "(A)", "neither"]
    assert first["parsed"] == ["A", "B", "A", None] and first["gold"] == "A"
    assert (first["correct"], first["num_correct"], first["num_samples"]) == (True, 2, 4)
    assert (second["correct"], second["num_correct"]) == (True, 1)
    model, _ = scripted(lambda prompt, images: ["B", "B"])
    record = predict(model, None, examples, num_samples=2)[0]
    assert (record["correct"], record["num_correct"], record["num_samples"]) == (False, 0, 2)


def test_free_answers_are_parsed_by_their_vocabulary(scripted):
    example = Example("f", (tiny.image(0),), "how many ?", "2", "count", meta={"vocabulary": ("0", "1", "2")})
    model, _ = scripted(lambda prompt, images: "There are two.")
    (record,) = predict(model, None, [example], STRICT_FREE)
    assert record["correct"] and record["vocabulary_size"] == 3 and "num_choices" not in record


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda examples: [], "no questions to evaluate"),
        (lambda examples: [examples[0], examples[0]], "two rows have the id 'q0', number 0 and number 1"),
        (
            lambda examples: [replace(examples[0], answer="(E)")],
            r"row 'q0': gold answer '\(E\)' cannot be parsed",
        ),
    ],
)
def test_bad_questions_end_before_anything_is_generated(scripted, spoil, message):
    model, sizes = scripted(lambda prompt, images: "A")
    with pytest.raises(UserError, match=message):
        predict(model, None, spoil(choice_examples(2)))
    assert not sizes


def test_too_little_memory_says_what_to_do(scripted, monkeypatch):
    model, _ = scripted(lambda prompt, images: "A")

    def sample(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(rollout, "sample", sample)
    with pytest.raises(UserError, match="one question at a time; use --load_in_4bit"):
        predict(model, None, choice_examples(1))


@contextmanager
def memory_for(model, prompts):
    """A device that holds passes of at most so many prompts."""

    def full(module, arguments, inputs):
        if len(inputs["inputs_embeds"]) > prompts:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = model.model.language_model.register_forward_pre_hook(full, with_kwargs=True)
    yield
    handle.remove()


@pytest.mark.parametrize("samples", [1, 2])
def test_a_batch_that_memory_does_not_hold_is_halved(talkative, samples, capsys):
    examples, settings = choice_examples(7), {"batch_size": 6 * samples, "num_samples": samples}
    answers = predict(*talkative, examples, max_new_tokens=3, **settings)
    with memory_for(talkative[0], prompts=2):
        assert predict(*talkative, examples, max_new_tokens=3, **settings) == answers
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.endswith(f"--batch_size {3 * samples} avoids it")
    with memory_for(talkative[0], prompts=0), pytest.raises(UserError, match="for one question at a time"):
        predict(*talkative, examples, **settings)


def test_a_row_that_is_too_long_is_named(talkative):
    examples = choice_examples(3)
    examples[1] = replace(examples[1], question="how many " * 3000, prompt="")
    with pytest.raises(
        UserError, match="row 'q1' with an answer of 8 takes 6,0.. tokens.*shorten or remove the row"
    ):
        predict(*talkative, examples, batch_size=3, max_new_tokens=8)


def test_examples_are_looked_up_by_batch_and_let_go(scripted):
    examples = choice_examples(6)
    model, _ = scripted(gold_of(examples))
    lazy = LazyExamples(lambda index: examples[index], range(6))
    assert all(record["correct"] for record in predict(model, None, lazy, batch_size=4))


# ---- with a model


def test_batch_size_changes_no_answer(talkative):
    model, processor = talkative
    examples = choice_examples(7)
    ragged = [replace(example, prompt=example.prompt + " of the" * i) for i, example in enumerate(examples)]
    for num_samples in (1, 3):
        by_size = [
            predict(model, processor, ragged, batch_size=size, max_new_tokens=4, num_samples=num_samples)
            for size in (1, 3, 7)
        ]
        assert by_size[0] == by_size[1] == by_size[2]
        assert len({record["completions"][0] for record in by_size[0]}) > 1  # or it would prove nothing


def test_samples_follow_from_seed_question_and_number_alone(talkative):
    model, processor = talkative

    def sampled(examples, num_samples=3, seed=0, **options):
        options |= {"max_new_tokens": 4, "num_samples": num_samples, "seed": seed}
        records = predict(model, processor, examples, **options)
        return {record["id"]: record["completions"] for record in records}

    examples = choice_examples(5)
    found = sampled(examples)
    assert all(len(set(texts)) > 1 for texts in found.values())
    before = torch.get_rng_state()
    assert sampled(examples[::-1]) == found and sampled(examples[2:3]) == {"q2": found["q2"]}
    assert torch.equal(torch.get_rng_state(), before)  # what a script draws next does not depend on a test
    assert {id: texts[:3] for id, texts in sampled(examples, num_samples=5).items()} == found
    other = sampled(examples, seed=1)
    assert all(other[id] != texts for id, texts in found.items())
    twins = [replace(examples[0], id=name) for name in ("one", "two")]
    assert len({tuple(texts) for texts in sampled(twins).values()}) == 2
    cold = sampled(examples, temperature=1e-4)
    assert cold == {id: texts * 3 for id, texts in sampled(examples, num_samples=1).items()}


def test_other_images_give_other_answers(talkative):
    model, processor = talkative
    examples = [replace(example, prompt="what is there ?") for example in choice_examples(12)]
    before = predict(model, processor, examples, max_new_tokens=4)
    other = [replace(example, images=(tiny.image(100 + i),)) for i, example in enumerate(examples)]
    after = predict(model, processor, other, max_new_tokens=4)
    assert [record["completions"] for record in before] != [record["completions"] for record in after]


def test_a_real_model_leaves_a_whole_run_folder(talkative, tmp_path, capsys):
    model, processor = talkative
    summary = run(model, choice_examples(6), arguments(tmp_path), processor=processor)
    names = {file.name for file in tmp_path.iterdir()} - {".lock"}
    assert names == {"config.json", "predictions.jsonl", "summary.json", "summary.csv"}
    assert json.loads((tmp_path / "summary.json").read_text())["n"] == summary["n"] == 6
    assert summary["peak_memory_bytes"] > 0 and summary["seconds"] > 0
    assert str(tmp_path) in capsys.readouterr().out


# ---- run: the folder, resuming, refusing


def test_the_summary_counts_everything(scripted, tmp_path):
    examples = choice_examples(10)
    model, _ = scripted(lambda prompt, images: "" if prompt.endswith("9") else "A")
    summary = run(model, examples, arguments(tmp_path))
    assert (summary["n"], summary["unread"], summary["chance"]) == (10, 1, 0.5)
    assert summary["aggregates"]["micro"]["value"] == 0.5
    assert {task: part["n"] for task, part in summary["tasks"].items()} == {"Depth": 4, "Count": 6}
    assert summary["tasks"]["Depth"]["accuracy"] == 0.5 and summary["rule"].startswith("strict: the letter")


def test_the_summary_of_several_samples_names_both_kinds_of_pass_at_k(scripted, tmp_path):
    examples = choice_examples(8)
    said = ["AAAA", "BAAA", "BBBB", "AAAA", "AABB", "AAAA", "ABB-", "---B"]  # gold: A, B, A, B, ...
    text_of = {
        example.images[0].tobytes(): list(texts) for example, texts in zip(examples, said, strict=True)
    }
    model, _ = scripted(lambda prompt, images: text_of[images[0].tobytes()])
    summary = run(model, examples, arguments(tmp_path, num_samples=4))
    depth, count, totals = summary["tasks"]["Depth"], summary["tasks"]["Count"], summary["aggregates"]
    assert (summary["n"], summary["num_samples"], summary["unread"]) == (8, 4, 4)

    any_right = metrics.proportion(2, 3)  # Depth: q0, q3 and q6, of whose samples 4, 0 and 1 are right
    assert (depth["n"], depth["accuracy"], depth["interval"]) == (3, any_right.value, any_right.interval)
    assert totals["any_of_4 micro"]["value"] == 5 / 8
    assert totals["any_of_4 mean_of_tasks"]["value"] == pytest.approx((2 / 3 + 3 / 5) / 2)
    assert depth["chance"] == summary["chance"] == 1 - 0.5**4 and depth["pass@1"]["chance"] == 0.5

    unbiased = {
        task: [part[f"pass@{k}"]["value"] for k in (1, 2, 4)] for task, part in summary["tasks"].items()
    }
    assert unbiased["Depth"] == pytest.approx([1.25 / 3, 1.5 / 3, 2 / 3])
    assert unbiased["Count"] == pytest.approx([1 / 5, (0.5 + 5 / 6 + 0.5) / 5, 3 / 5])
    assert totals["pass@1 micro"]["value"] == pytest.approx(2.25 / 8)
    assert totals["pass@1 mean_of_tasks"]["value"] == pytest.approx((1.25 / 3 + 1 / 5) / 2)
    assert set(count) - {"n", "accuracy", "interval", "chance"} == {f"pass@{k}" for k in (1, 2, 3, 4)}
    assert all(part["interval"][0] <= part["value"] <= part["interval"][1] for part in totals.values())

    lines = table(summary).splitlines()
    assert lines[0].split()[:5] == ["bench", "n", "any", "of", "4"]
    assert lines[1].split() == ["Depth", "3", "66.7", "20.8", "to", "93.9", "93.8"]
    assert lines[6].split() == ["unbiased", "pass@1", "pass@2", "pass@4"]
    assert [cell.split()[0] for cell in lines[7].split("  ") if cell] == ["Depth", "41.7", "50.0", "66.7"]
    assert lines[-1] == "unparsed, and counted as wrong: 4 of 32 answers, 4 per question"


def test_greedy_and_sampled_runs_are_different_runs(scripted, tmp_path):
    examples = choice_examples(3)
    model, _ = scripted(lambda prompt, images: "A")
    run(model, examples, arguments(tmp_path))
    with pytest.raises(UserError, match="num_samples was 1, now 4"):
        run(model, examples, arguments(tmp_path, num_samples=4))


def test_a_sampled_run_resumes_with_its_samples(scripted, tmp_path):
    examples = choice_examples(6)
    model, _ = scripted(lambda prompt, images: ["A", "B"])
    whole = run(model, examples, arguments(tmp_path, num_samples=2))
    file = tmp_path / "predictions.jsonl"
    rows = file.read_bytes()
    file.write_bytes(b"".join(rows.splitlines(keepends=True)[:4]))
    model, sizes = scripted(lambda prompt, images: ["A", "B"])
    resumed = run(model, examples, arguments(tmp_path, num_samples=2))
    assert sizes == [2] and file.read_bytes() == rows
    assert resumed["tasks"] == whole["tasks"] and resumed["aggregates"] == whole["aggregates"]


def test_stopped_and_resumed_is_never_stopped(scripted, tmp_path):
    examples = choice_examples(10)
    model, _ = scripted(gold_of(examples))
    whole = run(model, examples, arguments(tmp_path / "whole"))

    answered = []

    def until_stopped(prompt, images):
        answered.append(prompt)
        if len(answered) > 6:
            raise KeyboardInterrupt
        return gold_of(examples)(prompt, images)

    model, _ = scripted(until_stopped)
    with pytest.raises(KeyboardInterrupt):
        run(model, examples, arguments(tmp_path / "stopped"))
    with (tmp_path / "stopped/predictions.jsonl").open("a") as file:
        file.write('{"id": "q4", "pro')  # a batch that was being written

    model, sizes = scripted(gold_of(examples))
    resumed = run(model, examples, replace(arguments(tmp_path / "stopped"), batch_size=3))
    assert sizes == [3, 3]  # what is done is not done again, and the batch size may change
    assert resumed["tasks"] == whole["tasks"] and resumed["aggregates"] == whole["aggregates"]
    both = [(tmp_path / name / "predictions.jsonl").read_bytes() for name in ("whole", "stopped")]
    assert both[0] == both[1]


def test_a_finished_run_is_parsed_again_and_not_generated_again(scripted, tmp_path):
    examples = choice_examples(5)
    model, _ = scripted(lambda prompt, images: "B")
    run(model, examples, arguments(tmp_path))
    model, sizes = scripted(lambda prompt, images: "A")
    always_a = bench(Rule("strict", "always A", lambda text, example: "A"))
    strict = run(model, examples, arguments(tmp_path), always_a)
    assert not sizes and strict["aggregates"]["micro"]["value"] == 1


def test_another_configuration_or_other_questions_are_refused(scripted, tmp_path):
    examples = choice_examples(5)
    model, _ = scripted(lambda prompt, images: "B")
    run(model, examples, arguments(tmp_path))
    with pytest.raises(UserError, match="max_new_tokens was 3, now 9"):
        run(model, examples, replace(arguments(tmp_path), max_new_tokens=9))
    changed = [replace(example, prompt=example.prompt + " there") for example in examples]
    with pytest.raises(UserError, match=r"answers to other questions \(row 'q0'\)"):
        run(model, changed, arguments(tmp_path))
    with pytest.raises(UserError, match=r"answers to other questions \(row 'q4'\)"):
        run(model, examples[:4], arguments(tmp_path))


def test_the_default_folder_follows_from_the_arguments(scripted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["somewhere/eval_script.py"])
    model, _ = scripted(lambda prompt, images: "B")
    args = evaluate.Args(batch_size=4)
    for each in (
        args,
        replace(args, batch_size=2),
        replace(args, max_new_tokens=9),
        replace(args, output_dir="results/eval_script/mine"),
    ):
        run(model, choice_examples(5), each)
    folders = sorted(folder.name for folder in (tmp_path / "results" / "eval_script").iterdir())
    assert len(folders) == 3 and "mine" in folders
    assert all(name == "mine" or name.startswith("scripted-") for name in folders)


def test_changed_weights_are_another_run(scripted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["somewhere/eval_script.py"])
    (tmp_path / "adapter").mkdir()
    model, _ = scripted(lambda prompt, images: "B")
    for weights in ("first", "second one"):
        (tmp_path / "adapter" / "weights").write_text(weights)
        run(model, choice_examples(5), evaluate.Args(adapter="adapter"))
    assert len(list((tmp_path / "results" / "eval_script").iterdir())) == 2


def test_shuffled_images_take_away_what_only_the_image_tells(scripted, tmp_path):
    examples = choice_examples(40)
    answer_of = {example.images[0].tobytes(): example.answer for example in examples}
    model, _ = scripted(lambda prompt, images: answer_of[images[0].tobytes()])
    seeing = run(model, examples, arguments(tmp_path / "seeing"))
    blind = run(model, examples, arguments(tmp_path / "blind", shuffle_images=True))
    assert seeing["aggregates"]["micro"]["value"] == 1
    assert 0.2 < blind["aggregates"]["micro"]["value"] < 0.8
    rows = [json.loads(line) for line in (tmp_path / "blind/predictions.jsonl").read_text().splitlines()]
    assert all(row["images_of"] != row["id"] for row in rows)


def test_the_table_shows_percent_and_chance(scripted, tmp_path):
    model, _ = scripted(lambda prompt, images: "A")
    lines = table(run(model, choice_examples(10), arguments(tmp_path))).splitlines()
    assert lines[0].split() == ["bench", "n", "accuracy", "95", "%", "interval", "chance"]
    assert lines[1].split() == ["Depth", "4", "50.0", "15.0", "to", "85.0", "50.0"]
    assert lines[3].split()[:3] == ["micro", "10", "50.0"]
    assert lines[-1] == "unparsed, and counted as wrong: 0 of 10"
