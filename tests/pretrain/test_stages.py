"""The stages that make the embedded model: their shortcuts compute what the true model does."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import run_fresh

from pretrain import build, card, language, loop, nodes_world, scenes_world, vision, worlds


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    processor = build.processor()
    model = build.model(processor).eval()
    with torch.no_grad():  # weights large enough for every path to matter
        language.match_content(model)
        model.model.language_model.embed_tokens.weight.normal_(0, 192**-0.5)
        model.model.multi_modal_projector.linear.weight.normal_(0, 0.1)
    return model, processor


# ---- words


def test_words_are_whole_and_no_text_is_lost(made):
    _, processor = made
    tokenizer = processor.tokenizer
    ids = tokenizer.encode("How many cubes? (A) 3\n(B) 12", add_special_tokens=False)
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert pieces == ["How", "many", "cubes", "?", "(", "A", ")", "3", "\n", "(", "B", ")", "12"]
    texts = [
        "wibble",
        "1.6",
        "front-left",
        "(3.2, 4.5)",
        "N1 -> N12",
        "<think> no </think> <answer> 2 </answer>",
    ]
    for text in (*texts, "3 < 4", "N1, N2 or N4 (red)", "(B)"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert tokenizer.tokenize("N1 -> N12") == ["N1", "->", "N12"]


# ---- language


def test_two_streams_equal_the_model_one_question_a_row(made):
    """Shared image keys, the shortened last layer and the mask against Gemma 2's own layers."""
    model, _ = made
    torch.manual_seed(1)
    images, asked, length, prefix, answer = 2, 3, 14, 9, 4
    features = torch.randn(images, build.IMAGE_TOKENS, build.WIDTH)
    tokens = torch.randint(4, 400, (images, asked, length))
    mentions = torch.zeros((images, asked, 1), dtype=torch.int64)
    streams = language.TwoStreams(model, compiled=False)
    found, _, _ = streams(features, tokens, torch.full((images, asked), prefix), mentions, answer)
    start = build.IMAGE_TOKENS + 1  # and <bos>
    size = start + length
    sees = torch.ones(size, size, dtype=torch.bool).tril()
    sees[:start, :start] = True
    sees[start:, : start + prefix] = True
    bias = torch.zeros(1, 1, size, size).masked_fill(~sees, -1e9)
    embed = model.get_input_embeddings()
    for image in range(images):
        for question in range(asked):
            parts = [model.model.multi_modal_projector(features[image : image + 1])]
            parts += [embed(torch.tensor([[2]])), embed(tokens[image : image + 1, question])]
            states = model.model.language_model(
                inputs_embeds=torch.cat(parts, 1),
                attention_mask={"full_attention": bias, "sliding_attention": bias},
                position_ids=torch.arange(1, size + 1)[None],
            ).last_hidden_state
            logits = 30 * torch.tanh(model.lm_head(states) / 30)
            at = start + prefix - 1
            wanted = logits[0, at : at + answer]
            assert wanted.std() > 0.5
            assert (found[image, question] - wanted).abs().max() < 0.1  # bfloat16 against float32


def test_labels_are_the_answer_and_its_end():
    tokens = torch.tensor([[[11, 12, 9, 21, 22, 1, 0, 0]]])  # question, newline (9), answer, <eos>
    found = language.labels(tokens, torch.tensor([[3]]), torch.tensor([[6]]), 4)
    assert found.tolist() == [[[21, 22, 1, -100]]]
    longer = language.labels(tokens, torch.tensor([[3]]), torch.tensor([[6]]), 7)
    assert longer.tolist() == [[[21, 22, 1, -100, -100, -100, -100]]]


class Parrot(torch.nn.Module):
    """Says the row's own answer where it is shown the row's own image, and else another."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(()))
        self.shown = []

    def forward(self, features, tokens, prefix, mentions, answer):
        at = prefix[..., None] + torch.arange(answer)
        said = tokens.gather(2, at.clamp_max(tokens.shape[2] - 1))
        said = torch.where((features[:, 0, :1] == tokens[:, :, 0])[..., None], said, 7)
        self.shown.append(features[:, 0, 0].long().tolist())
        return torch.nn.functional.one_hot(said, 30).float(), None, None


def test_accuracy_is_exact_match_by_kind_on_right_and_shuffled_images():
    tokens = torch.tensor([[[n, 9, 20, 21, 1], [n, 9, 22, 1, 0]] for n in (11, 12, 13, 14, 15)])
    quiz = SimpleNamespace(
        items=torch.arange(5),
        tokens=tokens,
        prefix=torch.full((5, 2), 2),
        total=torch.tensor([[5, 4]] * 5),
        mentions=torch.zeros(5, 2, 1),
        kinds=torch.tensor([[0, 1]] * 5),
        names=("one", "two"),
    )
    features = torch.tensor([11.0, 12, 13, 19, 15])[:, None, None].expand(5, 2, 3)  # the fourth is another's
    parrot = Parrot()
    lesson = language.Lesson(quiz, None, features, 3)
    assert language.accuracy(parrot, lesson, 64) == {"one": pytest.approx(0.8), "two": pytest.approx(0.8)}
    assert language.accuracy(parrot, lesson, 2) == {"one": 0.75, "two": 0.75}  # whole batches
    parrot.shown.clear()
    assert language.accuracy(parrot, lesson, 2, shuffled=True) == {"one-shuffled": 0, "two-shuffled": 0}
    assert parrot.shown == [[13, 19], [11, 12]]


# ---- the loop


class Layered(torch.nn.Module):
    """A matrix among layers, which Muon trains, and others beside."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(3, 3)])})
        self.head = torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.head(self.stack["layers"][0](x))


def test_the_same_step_has_the_same_batch_whenever_asked():
    first, again = loop.batches(100, 8, "a"), loop.batches(100, 8, "a")
    straight = [first(step).tolist() for step in range(30)]
    assert [again(step).tolist() for step in (29, 3, 12)] == [straight[29], straight[3], straight[12]]
    assert sorted(sum(straight[:12], [])) == sorted(set(sum(straight[:12], [])))  # an epoch repeats nothing
    few = loop.batches(5, 8, "a")
    assert sorted(few(0).tolist()) == sorted(few(1).tolist()) == [0, 1, 2, 3, 4] and not few(0).equal(few(1))


def test_a_stopped_stage_goes_on_where_it_was(tmp_path):
    def fit(folder: Path, stop_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        module = Layered()

        def loss(step: int) -> torch.Tensor:
            if step == stop_at:
                raise KeyboardInterrupt
            return (module(torch.full((4, 3), step / 10)) - step).pow(2).mean()

        folder.mkdir(exist_ok=True)
        loop.fit("stage", folder, module, loss, 20, 1e-2, dict)
        return torch.nn.utils.parameters_to_vector(module.parameters()).detach()

    loop_seconds, loop.CHECKPOINT_SECONDS = loop.CHECKPOINT_SECONDS, 0
    try:
        whole = fit(tmp_path / "whole", None)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "parts", 13)
        assert torch.equal(fit(tmp_path / "parts", None), whole)
    finally:
        loop.CHECKPOINT_SECONDS = loop_seconds


# ---- vision


class Tower(torch.nn.Module):
    """A tower of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=16)
        self.patches = torch.nn.Conv2d(3, 16, build.PATCH_SIZE, build.PATCH_SIZE)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(16, 16)])

    def forward(self, pixels):
        patches = self.patches(pixels).flatten(2).transpose(1, 2)
        return SimpleNamespace(last_hidden_state=self.layers[0](patches))


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("items"), []
    for world in (scenes_world.WORLD, nodes_world.WORLD):
        worlds.draw(folder / world.name, world, "stages", 7)
        found.append(worlds.Corpus(folder / world.name, 7))
    return found


def test_the_tower_learns_from_few_items_too(corpora, tmp_path):
    """Fewer than a batch: to train on and to measure on. The same seed gives the same weights."""
    weights = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        torch.manual_seed(0)
        seer = vision.Seer(Tower())
        vision.train(seer, corpora, corpora, folder, 16, (96, 32), 0, compiled=False)
        weights.append(torch.nn.utils.parameters_to_vector(seer.parameters()))
    assert torch.equal(*weights)
    curve = [json.loads(line) for line in (tmp_path / "one/curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert 0 <= curve[-1]["shape"] <= 1 and curve[-1]["distance_error"] > 0


def test_features_are_the_towers_of_images_in_batches_and_kept(corpora, tmp_path):
    tower, images = Tower(), corpora[1].image
    found = vision.features(tower, images, tmp_path / "kept.pt", batch_size=3)
    assert found.shape == (7, 81, 16) and found.dtype == torch.bfloat16
    pixels = torch.from_numpy(np.moveaxis(images.numpy(), 3, 1) / 127.5 - 1).float()
    torch.testing.assert_close(found.float(), tower(pixels).last_hidden_state, atol=0.03, rtol=0.03)
    assert torch.equal(vision.features(Tower(), images, tmp_path / "kept.pt"), found)


# ---- the card


def test_the_cards_questions_are_of_the_test_split(monkeypatch):
    forms = {}
    monkeypatch.setattr(
        card, "_scores", lambda model, processor, examples, form: forms.setdefault(form, examples)
    )
    card.measure(None, None, 1)
    for form, examples in forms.items():
        if form.startswith(("two", "rooms", "nodes")):
            continue
        assert all("-test-" in example.meta["scene"][0] for example in examples), form
    for form, world, plan, each in (
        ("two things or more", scenes_world.WORLD, "pairs", 1),
        ("rooms", scenes_world.WORLD, "rooms", 1),
        ("nodes", nodes_world.WORLD, "short", 2),
        ("nodes, Sparkle's form", nodes_world.WORLD, "forms", 2),
        ("nodes, routes", nodes_world.WORLD, "routes", 2),
    ):
        assert sorted(example.task for example in forms[form]) == sorted([*world.plans[plan].askers] * each)
        for example in forms[form]:
            facts = world.make("test", example.meta["item"])
            assert world.plans[plan].only(facts)
            assert np.array_equal(np.asarray(example.images[0]), world.draw(facts).image)
            rng = Random(f"card-{plan}-{example.task}-{example.meta['item']}")
            asked = world.plans[plan].askers[example.task][0](facts, rng)
            assert (example.prompt, example.answer) == (asked.prompt, asked.answer)
        assert len({(example.task, example.meta["item"]) for example in forms[form]}) == len(forms[form])


@pytest.mark.slow
def test_the_script_makes_a_model_from_nothing(tmp_path):
    """All stages, one step each, from another folder; the result loads as any PaliGemma does."""
    from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

    steps = ("vision", "language", "forms")
    flags = [part for name in steps for part in (f"--{name}_steps", "1")]
    flags += ["--scenes", "18", "--nodes", "16", "--validation", "16", "--card_questions", "2"]
    flags += ["--compile", "false", "--output_dir", "made", "--work_dir", "work"]
    run_fresh("pretrain.embedded", *flags, folder=tmp_path)
    model = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "made")
    processor = AutoProcessor.from_pretrained(tmp_path / "made")
    assert model.config.text_config.vocab_size == len(processor.tokenizer)
    assert (tmp_path / "made/model.safetensors").stat().st_size < 15e6
    curve = [json.loads(line) for line in (tmp_path / "made/curve.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in curve] == list(steps)
    assert {"scenes-pairs-turned", "nodes-short-next-shuffled"} <= set(curve[1])
    assert {"scenes-thoughts-object_counting", "nodes-routes-tour"} <= set(curve[2])
    text = (tmp_path / "made/README.md").read_text()
    assert "| count | 2 |" in text and "| tour | 2 |" in text and "`vision_steps`: 1" in text
