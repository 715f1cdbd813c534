"""Training leaves out rows that cannot be used, up to one in a hundred; a benchmark leaves out none."""

import io

import pytest
from PIL import Image, PngImagePlugin
from pyarrow import Table, parquet

from spatialvlm.errors import RowError, UserError
from spatialvlm.files import rows
from spatialvlm.files.exclusion import usable_rows
from spatialvlm.images import open_image
from spatialvlm.tasks.sat import data as sat


def image(format="png", size=(30, 20)):
    file = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(file, format)
    return file.getvalue()


def sat_rows(count, **bad):
    """Rows of SAT; `bad` are changed ones by their number (`row7`)."""
    good = {
        "image_bytes": [image()],
        "question": "What moved?",
        "answers": ["the chair", "the lamp"],
        "question_type": "obj_movement",
        "correct_answer": "the chair",
    }
    return [good | bad.get(f"row{number}", {}) for number in range(count)]


def save(folder, listed):
    parquet.write_table(Table.from_pylist(listed), folder / "SAT_train.parquet")
    return folder / "SAT_train.parquet"


def test_training_leaves_out_one_in_a_hundred_and_says_so(tmp_path, capsys):
    bad = {"row7": {"answers": None}, "row8": {"correct_answer": "the lamp"}, "row200": {"question": ""}}
    file = save(tmp_path, sat_rows(300, **bad))
    found = sat.load(file, limit=299, training=True)
    assert len(found) == 297 and found[7].id == "sat-train-9"  # ids are the rows' numbers in the file
    reasons = {"no 'answers'": 1, "'correct_answer' is not the first of 'answers'": 1, "no 'question'": 1}
    assert found.facts["excluded"] == reasons and found[:5].facts == found.facts
    (line,) = capsys.readouterr().err.splitlines()
    assert "3 of 300 rows cannot be used and are left out" in line and "row 7 has no 'answers'" in line
    for reason in reasons:
        assert f"{reason} 1" in line
    with pytest.raises(RowError, match="row 7 has no 'answers'"):
        sat.load(file)  # a benchmark refuses


def test_more_than_one_in_a_hundred_end_with_the_first_and_the_counts(tmp_path):
    bad = {f"row{number}": {"image_bytes": [image()[:200]]} for number in (150, 160)}
    bad["row170"] = {"question": None}
    file = save(tmp_path, sat_rows(299, **bad))
    with pytest.raises(UserError) as caught:
        sat.load(file, training=True)
    message = str(caught.value)
    assert "SAT_train.parquet row 150 image 0: the image cannot be read" in message and "\n" not in message
    assert "3 of the 171 rows" in message and "(broken image 2, no 'question' 1)" in message
    with pytest.raises(UserError, match="row 50 image 0"):  # one of 61 looked at is too much as well
        sat.load(save(tmp_path, sat_rows(99, row50=bad["row150"])), training=True, limit=60)


def test_the_rows_looked_at_are_what_counts():
    looked_at = []

    def wanted(number):
        looked_at.append(number)
        if number < 3:
            raise RowError(f"row {number} has no head", "no head")
        return number % 2

    with pytest.raises(UserError, match="row 0 has no head. 3 of the 102 rows of data looked at"):
        usable_rows(range(1000), wanted, "data", limit=50)
    assert looked_at == list(range(102))
    looked_at.clear()
    with pytest.raises(UserError, match="3 of the 3 rows"):
        usable_rows(range(299), wanted, "data")
    assert looked_at == [0, 1, 2], "3 of 299 are too many, whatever the others are"
    chosen = usable_rows(range(300), wanted, "data")
    assert chosen.numbers == list(range(3, 300, 2)) and chosen.excluded == {"no head": 3}


def test_an_error_that_is_no_rows_fault_ends_the_reading():
    def wanted(number):
        raise UserError("no space left")

    with pytest.raises(UserError, match="no space left"):
        usable_rows(range(1000), wanted, "data")


@pytest.mark.parametrize("format", ["png", "jpeg", "bmp", "gif", "tiff", "webp"])
def test_a_file_that_is_cut_off_is_no_image(format):
    whole = image(format, (200, 100))
    assert rows.as_image(whole, "row 3").size == (200, 100)
    assert rows.as_image(whole + b"\0" * 100, "row 3").size == (200, 100)  # padded, as some cameras do
    with pytest.raises(RowError, match="row 3: the image cannot be read") as caught:
        rows.as_image(whole[: len(whole) * 2 // 3], "row 3")
    assert caught.value.reason == "broken image"
    if format == "png":
        spoilt = whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:]
        with pytest.raises(RowError, match="row 3: the image cannot be read"):
            rows.as_image(spoilt, "row 3")


def test_a_png_with_too_long_a_text_is_no_image(tmp_path):
    """Pillow raises a ValueError for it."""
    content, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("notes", "a" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    Image.new("RGB", (8, 8)).save(content, "png", pnginfo=info)
    with pytest.raises(RowError, match="row 3: the image cannot be read"):
        rows.as_image(content.getvalue(), "row 3")
    (tmp_path / "long.png").write_bytes(content.getvalue())
    with pytest.raises(UserError, match="long.png cannot be read"):
        open_image(tmp_path / "long.png")


def test_a_file_with_too_many_pixels_is_named(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="large.png cannot be read"):
        open_image(tmp_path / "large.png")
