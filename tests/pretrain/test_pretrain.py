"""The stages that make the embedded model: their shortcuts compute what the true model does."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from commands import run_fresh

from pretrain import build, language, loop, quiz, vision
from spatialvlm.worlds.clevr import questions, scenes
from spatialvlm.worlds.clevr.scenes import MATERIALS, SHAPES


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
    for index in range(20):
        scene, rng = scenes.make("words", index), Random(index)
        for asker, _ in quiz.FORMS.values():
            if question := asker(scene, rng):
                text = f"{question.prompt} {question.answer}"
                assert not any(p.startswith("##") or p == "<unk>" for p in tokenizer.tokenize(text)), text


def test_two_streams_equal_the_model_one_question_a_row(made):
    """Shared image keys, the shortened last layer and the mask against Gemma 2's own layers."""
    model, _ = made
    torch.manual_seed(1)
    images, asked, length, prefix = 2, 3, 14, 9
    features = torch.randn(images, build.IMAGE_TOKENS, build.WIDTH)
    tokens = torch.randint(4, 400, (images, asked, length))
    mentions = torch.zeros((images, asked, 1), dtype=torch.int64)
    streams = language.TwoStreams(model, compiled=False)
    found, _, _ = streams(features, tokens, torch.full((images, asked), prefix), mentions)
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
            wanted = logits[0, at : at + language.ANSWER]
            assert wanted.std() > 0.5
            assert (found[image, question] - wanted).abs().max() < 0.1  # bfloat16 against float32


def test_labels_are_the_answer_and_its_end():
    tokens = torch.tensor([[[11, 12, 9, 21, 22, 1, 0, 0]]])  # question, newline (9), answer, <eos>
    found = language.labels(tokens, torch.tensor([[3]]), torch.tensor([[6]]))
    assert found.tolist() == [[[21, 22, 1, -100]]]


def test_mentions_are_the_nouns_of_the_objects_asked_about(tmp_path, made):
    """In every form: the words before the noun fit the object, and the chosen one is the answer."""
    _, processor = made
    world = [scenes.make("mentions", index) for index in range(40)]
    found = quiz.make(tmp_path / "quiz.npz", world, processor, quiz.FORMS, 20, 88, "mentions", workers=1)
    tokenizer, chosen = processor.tokenizer, {}
    for i, scene in enumerate(world):
        for k in range(20):
            kind = found.names[found.kinds[i, k]]
            words = tokenizer.convert_ids_to_tokens(found.tokens[i, k].tolist())
            answer = words[found.prefix[i, k] : found.total[i, k] - 1]
            names = []
            for at, index, right in zip(
                found.mentions[i, k], found.objects[i, k], found.chosen[i, k], strict=True
            ):
                if index < 0:
                    assert right == -1
                    continue
                thing = scene["objects"][index]
                name, rest = [words[at]], words[:at]
                assert words[at] in (thing["shape"], "thing")
                while rest and rest[-1] in (thing["size"], thing["color"], thing["material"]):
                    name.insert(0, rest.pop())
                assert rest[-1] in ("the", ")", "or", ":", ","), words
                names.append((tuple(name), int(index)))
                if right >= 0:
                    chosen.setdefault(kind, []).append(right == 1)
                    if kind in ("depth", "distance", "natural-depth", "natural-distance"):
                        assert (name == answer) == (right == 1)
            assert len(set(names)) == len({index for _, index in names})
            assert (kind in ("attribute", "relation", "depth", "distance")) <= bool(names), kind
    for kind in ("depth", "natural-distance", "letter-depth", "cvbench-Depth"):
        assert 0.3 <= np.mean(chosen[kind]) <= 0.6, kind
    assert "relation" not in chosen and "cvbench-Relation" not in chosen


def test_the_last_stage_lists_the_right_choice_first():
    kinds = [kind for kind in quiz.LAST if kind.startswith("first-")]
    assert len(kinds) == 4 and not any("letter" in kind or "cvbench" in kind for kind in quiz.LAST)
    for kind in kinds:
        for index in range(12):
            scene = scenes.make("first", index)
            if found := quiz.LAST[kind][0](scene, Random(index)):
                asked = questions.sat(scene, Random(index), kind.removeprefix("first-"))
                assert found.answer == "A" and found.choices[0] == asked.answer
                assert sorted(found.choices) == sorted(asked.choices)
                assert f"(A) {asked.answer}\n(B) " in found.prompt


def test_dense_answers_about_a_mention_are_those_of_its_object(tmp_path, made):
    _, processor = made
    world = [scenes.make("mentions", index) for index in range(4)]
    found = quiz.make(tmp_path / "quiz.npz", world, processor, quiz.SHORT, 6, 28, "dense", workers=1)
    index = torch.tensor([2, 0])
    said = torch.arange(2 * 6 * quiz.MENTIONS).view(2, 6, quiz.MENTIONS, 1).expand(-1, -1, -1, vision.ROWS)
    said, classes, values = language.Things(world).said_of(said, found, index)
    rows = [(k, slot) for k in range(6) for slot in range(quiz.MENTIONS) if found.objects[2, k, slot] >= 0]
    for row, (k, slot) in enumerate(rows):  # the first scene's rows come first
        thing = world[2]["objects"][found.objects[2, k, slot]]
        assert said[row, 0] == k * quiz.MENTIONS + slot
        assert classes[row, 0] == SHAPES.index(thing["shape"]) + 1
        assert values[row, 2] == pytest.approx((thing["pixel_coords"][2] - 11) / 2, abs=1e-5)


def test_dense_targets_say_what_lies_on_the_patch():
    scene = scenes.make("dense", 0)
    owners = np.full((9, 9), -1)
    owners[4, 4], owners[0, 8] = 0, 2
    classes, values = vision.targets(scene, owners)
    assert classes[0].tolist() == [0, 0, 0, 0, classes[0, 4]]
    for patch, index in ((4 * 9 + 4, 0), (8, 2)):
        thing = scene["objects"][index]
        assert classes[patch, 0] == SHAPES.index(thing["shape"]) + 1
        assert classes[patch, 3] == MATERIALS.index(thing["material"])
        assert values[patch, 2] == pytest.approx((thing["pixel_coords"][2] - 11) / 2, abs=1e-5)
        assert values[patch, 3] == pytest.approx(thing["3d_coords"][0] / 2, abs=1e-5)
    assert classes[:, 4].sum() == len({tuple(np.array(t["pixel_coords"][:2]) * 9 // [480, 320])
                                       for t in scene["objects"]})  # fmt: skip


def test_the_same_step_has_the_same_batch_whenever_asked():
    first, again = loop.batches(100, 8, "a"), loop.batches(100, 8, "a")
    straight = [first(step).tolist() for step in range(30)]
    assert [again(step).tolist() for step in (29, 3, 12)] == [straight[29], straight[3], straight[12]]
    assert sorted(sum(straight[:12], [])) == sorted(set(sum(straight[:12], [])))  # an epoch repeats nothing


def test_a_stopped_stage_goes_on_where_it_was(tmp_path):
    def fit(folder: Path, stop_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        module = torch.nn.Linear(3, 1)

        def loss(step: int) -> torch.Tensor:
            if step == stop_at:
                raise KeyboardInterrupt
            return (module(torch.full((4, 3), step / 10)) - step).pow(2).mean()

        folder.mkdir(exist_ok=True)
        loop.fit("stage", folder, module, loss, 20, 1e-2, dict)
        return module.weight.detach()

    loop_seconds, loop.CHECKPOINT_SECONDS = loop.CHECKPOINT_SECONDS, 0
    try:
        whole = fit(tmp_path / "whole", None)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "parts", 13)
        assert torch.equal(fit(tmp_path / "parts", None), whole)
    finally:
        loop.CHECKPOINT_SECONDS = loop_seconds


@pytest.mark.slow
def test_the_script_makes_a_model_from_nothing(tmp_path):
    """All stages, one step each, from another folder; the result loads as any PaliGemma does."""
    from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

    steps = ("vision", "language", "forms", "finish")
    flags = [part for name in steps for part in (f"--{name}_steps", "1")]
    flags += ["--scenes", "128", "--validation_scenes", "128", "--card_questions", "4"]
    flags += ["--compile", "false", "--output_dir", "made", "--work_dir", "work"]
    run_fresh("pretrain.embedded", *flags, folder=tmp_path)
    model = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "made")
    processor = AutoProcessor.from_pretrained(tmp_path / "made")
    assert model.config.text_config.vocab_size == len(processor.tokenizer)
    assert (tmp_path / "made/model.safetensors").stat().st_size < 15e6
    card = (tmp_path / "made/README.md").read_text()
    assert "| count | 4 |" in card and "`vision_steps`: 1" in card
