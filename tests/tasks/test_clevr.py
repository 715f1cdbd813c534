"""Real CLEVR: its questions answered without their programs, its folders read, its faults named."""

import json
import shutil
from collections import Counter
from random import Random

import pytest
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.worlds.clevr import official_answers, official_questions, scenes
from spatialvlm.worlds.clevr.official_answers import FAMILIES


@pytest.fixture(scope="module")
def some():
    return [scenes.make("test-clevr", index) for index in range(60)]


@pytest.fixture
def folder(tmp_path, some):
    """An official folder of three small images, with one question each."""
    for name in ("images", "scenes", "questions"):
        (tmp_path / name).mkdir()
    listed, asked = [], []
    for index, scene in enumerate(some[:3]):
        name = f"CLEVR_val_{index:06d}.png"
        listed.append({**scene, "image_filename": name, "image_index": index, "split": "val"})
        Image.new("RGB", (48, 32), (index, 0, 0)).save(tmp_path / "images" / name)
        question = official_questions.clevr(scene, Random(index), "count")
        row = {"question": question.question, "answer": question.answer, "image_filename": name}
        asked.append(row | {"question_index": index, "split": "val"})
    write(tmp_path / "scenes/CLEVR_val_scenes.json", {"scenes": listed})
    write(tmp_path / "questions/CLEVR_val_questions.json", {"questions": asked})
    return tmp_path


def write(file, content):
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def read(file):
    return json.loads(file.read_text())


# ---- the official questions


def test_all_official_answers_are_found_from_text_and_scene(real_data):
    found = clevr.load(real_data / "clevr")
    assert len(found) == 400
    answers = [official_answers.answer_clevr(item.question, item.meta["scene"]) for item in found]
    assert answers == [item.answer for item in found]
    assert all(official_answers.family(item.question) == item.task for item in found)
    assert {item.task for item in found} == set(FAMILIES)


def test_sides_in_the_text_are_looked_at(real_data):
    """With left and right exchanged in the scenes many answers change."""
    changed = 0
    for item in clevr.load(real_data / "clevr"):
        scene = item.meta["scene"]
        sides = scene["relationships"]
        turned = {**scene, "relationships": sides | {"left": sides["right"], "right": sides["left"]}}
        changed += official_answers.answer_clevr(item.question, turned) != item.answer
    assert changed > 50


@pytest.mark.parametrize(
    "text",
    [
        "Which object is heavier?",
        "What color is the dog?",
        "How many red",
        "What is the shape of the?",
        "There is a cube; what color is that?",
        "",
    ],
)
def test_other_texts_get_no_answer(some, text):
    assert official_answers.answer_clevr(text, some[0]) is None


def test_a_reference_to_nothing_or_to_two_things_gets_no_answer(some):
    scene = {**some[0], "objects": [some[0]["objects"][0] | {"color": "red", "shape": "cube"}] * 2}
    assert official_answers.answer_clevr("What size is the red cube?", scene) is None
    assert official_answers.answer_clevr("What size is the blue cube?", scene) is None
    assert official_answers.answer_clevr("How many red blocks are there?", scene) == "2"


@pytest.mark.parametrize("family", FAMILIES)
def test_new_questions_agree_with_their_text(some, family):
    """The maker's answer is the one that reading its text gives; nothing refers to two things."""
    answers, structures = Counter(), Counter()
    for index, scene in enumerate(some):
        for draw in range(3):
            made = official_questions.clevr(scene, Random(f"{index}-{draw}"), family)
            if made is None:
                continue
            assert official_answers.answer_clevr(made.question, scene) == made.answer, made.question
            assert official_answers.family(made.question) == made.task == family
            answers[made.answer] += 1
            structures[made.meta["structure"]] += 1
    assert answers.total() > 160
    if family == "exist" or family.startswith("compare"):
        assert 0.38 < answers["yes"] / answers.total() < 0.62
    if family.startswith("query") or family in ("exist", "count"):
        assert structures["three_hop"] and structures["same_relate"]


def test_an_unknown_family_is_refused(some):
    with pytest.raises(ValueError, match="no CLEVR family 'colour'"):
        official_questions.clevr(some[0], Random(0), "colour")


# ---- folders


def test_folder(folder):
    found = clevr.load(folder)
    assert [item.id for item in found] == ["clevr-val-0", "clevr-val-1", "clevr-val-2"]
    assert found[1].open_images()[0].getpixel((0, 0)) == (1, 0, 0)
    assert found[1].task == "count"
    assert found[1].meta["scene"]["image_index"] == 1
    assert [item.id for item in clevr.load(folder, limit=2)] == ["clevr-val-0", "clevr-val-1"]


def test_pictures_in_a_folder_of_the_split(folder):
    (folder / "images/val").mkdir()
    for picture in (folder / "images").glob("*.png"):
        picture.rename(folder / "images/val" / picture.name)
    assert [item.open_images()[0].width for item in clevr.load(folder)] == [48] * 3
    assert len(clevr.load_scenes(folder)) == 3


def test_several_splits(folder):
    content = read(folder / "questions/CLEVR_val_questions.json")
    write(folder / "questions/CLEVR_valB_questions.json", {"questions": content["questions"][:1]})
    write(folder / "questions/CLEVR_train_questions.json", {"questions": []})
    assert len(clevr.load(folder)) == 3  # val
    assert clevr.load(folder, split="valB")[0].meta["scene"] is None  # no scenes of that split
    with pytest.raises(UserError, match="CLEVR_train_questions.json holds no question"):
        clevr.load(folder, split="train")
    with pytest.raises(UserError, match="no file of split 'test' .* only of: train, val, valB"):
        clevr.load(folder, split="test")


def test_no_such_folder(tmp_path):
    for load in (clevr.load, clevr.load_scenes, clevr.load_free, clevr.load_sat, clevr.load_cvbench):
        with pytest.raises(UserError, match="no such .*nowhere"):
            load(tmp_path / "nowhere")


def test_pictures_without_scenes(folder):
    shutil.rmtree(folder / "scenes")
    assert clevr.load(folder)[0].meta["scene"] is None
    with pytest.raises(UserError, match="has no scenes"):
        clevr.load_sat(folder)


def test_scenes_without_pictures(folder):
    shutil.rmtree(folder / "images")
    with pytest.raises(UserError, match="none of the 3 scenes"):
        clevr.load_sat(folder)


def test_pictures_without_questions(folder):
    shutil.rmtree(folder / "questions")
    with pytest.raises(UserError, match="no questions/ folder"):
        clevr.load(folder)


@pytest.mark.parametrize("kind", ["scenes", "questions"])
@pytest.mark.parametrize("content", ["{broken", "[1, 2]", '{"info": 1, "scenes": 1}', '{"scenes": [{}]}'])
def test_a_file_that_is_not_what_it_should_be_is_named(folder, kind, content):
    write(folder / kind / f"CLEVR_val_{kind}.json", content)
    with pytest.raises(UserError, match=f"CLEVR_val_{kind}.json") as caught:
        clevr.load(folder)
    assert "\n" not in str(caught.value)


def test_a_row_without_an_answer_is_named(folder):
    file = folder / "questions/CLEVR_val_questions.json"
    content = read(file)
    del content["questions"][1]["answer"]
    content["questions"].append(3)
    write(file, content)
    with pytest.raises(UserError, match="CLEVR_val_questions.json row 1 has no 'answer'"):
        clevr.load(folder)
    content["questions"].pop(1)
    write(file, content)
    with pytest.raises(UserError, match="CLEVR_val_questions.json row 2 has no 'question'"):
        clevr.load(folder)


def test_a_truncated_picture_is_named_before_any_is_opened(folder):
    picture = folder / "images/CLEVR_val_000001.png"
    picture.write_bytes(picture.read_bytes()[:60])
    with pytest.raises(UserError, match=r"row 1: image .*CLEVR_val_000001.png cannot be read"):
        clevr.load(folder)
    picture.unlink()
    with pytest.raises(UserError, match=r"row 1: image .*CLEVR_val_000001.png does not exist"):
        clevr.load(folder)
    assert len(clevr.load(folder, need_images=False)) > 1


@pytest.mark.parametrize("name", ["a" * 300, ".", "one\0.png"])
def test_a_name_that_no_image_can_have_is_named(folder, name):
    file = next((folder / "questions").iterdir())
    asked = json.loads(file.read_text())
    asked["questions"][1]["image_filename"] = name
    file.write_text(json.dumps(asked))
    with pytest.raises(UserError, match=r"row 1: image .* does not exist"):
        clevr.load(folder)


# ---- rows of the hub


def rows(folder, name="ValB.jsonl", **changes):
    Image.new("RGB", (30, 20), "red").save(folder / "one.png")
    row = {"image": "one.png", "problem": "How many items are there?", "solution": "<answer> 3 </answer>"}
    content = [row, {**row, "problem": "Are there any cubes?", "solution": "<answer> yes </answer>"}]
    content[1] |= changes
    (folder / name).write_text("\n".join(json.dumps(row) for row in content))
    return folder / name


def test_hub_rows(tmp_path):
    found = clevr.load(rows(tmp_path))
    assert [(item.answer, item.task) for item in found] == [("3", "count"), ("yes", "exist")]
    assert found[0].open_images()[0].size == (30, 20)
    assert [item.answer for item in clevr.load(tmp_path)] == ["3", "yes"]  # the folder that holds the file


def test_hub_rows_in_parquet(tmp_path):
    import datasets

    picture = tmp_path / "one.png"
    Image.new("RGB", (30, 20), "blue").save(picture)
    features = datasets.Features(
        image=datasets.Image(), problem=datasets.Value("string"), solution=datasets.Value("string")
    )
    content = {"image": [str(picture)], "problem": ["How many?"], "solution": ["<answer> 7 </answer>"]}
    table = datasets.Dataset.from_dict(content, features=features)
    table.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    (found,) = clevr.load(tmp_path)
    assert (found.answer, found.open_images()[0].getpixel((0, 0))) == ("7", (0, 0, 255))


def test_a_hub_row_without_an_answer_is_named(tmp_path):
    with pytest.raises(UserError, match="ValB.jsonl row 1: 'solution' holds no <answer>"):
        clevr.load(rows(tmp_path, solution="3"))
    with pytest.raises(UserError, match="ValB.jsonl row 1 has no 'solution'"):
        clevr.load(rows(tmp_path, solution=None))


# ---- our own forms over real scenes


def test_own_forms_over_real_scenes(real_data):
    folder = real_data / "clevr"
    free = clevr.load_free(folder, kinds=("exist", "count"))
    assert Counter(item.task for item in free).keys() == {"exist", "count"}
    assert len({item.id for item in free}) == len(free) > 70
    sat = clevr.load_sat(folder, limit=200, answer_form="letter")
    assert len(sat) == 200 and all(item.answer in "ABCD" for item in sat)
    assert len({(item.meta["image"], item.question) for item in sat}) == 200
    assert [item.prompt for item in sat] == [item.prompt for item in clevr.load_sat(folder, 200, "letter")]


def test_cvbench_form_draws_boxes_over_real_pictures(real_data):
    folder = real_data / "clevr"
    found, twins = (clevr.load_cvbench(folder, limit=12, ood=ood) for ood in (False, True))
    drawn = 0
    for item, twin in zip(found, twins, strict=True):
        assert item.id == twin.id
        if item.task in ("Depth", "Distance"):
            (image,) = item.open_images()
            pixels = Counter(image.get_flattened_data())
            assert image.size == (480, 320) and pixels[(255, 0, 0)] > 50 and pixels[(0, 0, 255)] > 50
            assert {item.answer, twin.answer} == {"(A)", "(B)"}
            drawn += 1
        else:
            assert (item.question, item.answer) == (twin.question, twin.answer)
    assert drawn >= 4


def test_limit_beyond_what_a_folder_offers(folder):
    found = clevr.load_free(folder, limit=10_000, kinds=("depth",))
    assert 3 <= len(found) < 10_000
    assert len({(item.meta["image"], item.question) for item in found}) == len(found)


def test_a_wrong_answer_form_is_refused(folder):
    with pytest.raises(UserError, match="--answer_form"):
        clevr.load_sat(folder, answer_form="letters")
