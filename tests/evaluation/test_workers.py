"""Worker processes change nothing but the time: the same batches, records and one-line errors."""

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import tiny_chat
import torch

from spatialvlm.errors import UserError
from spatialvlm.evaluation import batches
from spatialvlm.evaluation.batches import prepared
from spatialvlm.evaluation.evaluate import by_length, predict
from spatialvlm.example import Example, Video


def questions(count: int, folder: Path | None = None) -> list[Example]:
    """Prompts of several lengths, with one image each: in memory, or in a folder."""

    def image(number: int):
        if folder is None:
            return tiny.image(number)
        tiny.image(number).save(folder / f"{number}.png")
        return folder / f"{number}.png"

    return [
        Example(
            f"q{n}", (image(n),), "what is left of the" + " red" * (n % 4), "(A)", "t", ("cube", "sphere")
        )
        for n in range(count)
    ]


def test_batches_are_the_same_with_and_without_workers(tmp_path):
    examples, shards = questions(7, tmp_path), [[0, 1, 2], [], [6, 3], [5]]
    alone = list(prepared(tiny.processor(), examples, shards, workers=0))
    helped = list(prepared(tiny.processor(), examples, shards, workers=2))
    assert [[e.id for e in batch.examples] for batch in helped] == [
        [f"q{index}" for index in shard] for shard in shards
    ]
    for one, other in zip(alone, helped, strict=True):
        assert one.examples == other.examples
        assert (one.inputs is None) == (other.inputs is None) == (not one.examples)
        for name in ("input_ids", "attention_mask", "pixel_values"):
            if one.inputs:
                assert torch.equal(getattr(one.inputs, name), getattr(other.inputs, name))


def test_images_do_not_travel():
    (batch,) = prepared(tiny.processor(), questions(2), [[0, 1]], workers=0)
    assert batch.examples[1].prompt == questions(2)[1].prompt
    assert all(isinstance(image, Path) for example in batch.examples for image in example.images)


def test_records_are_the_same_with_workers():
    model, processor = tiny.paligemma()
    records = predict(model, processor, questions(9), batch_size=4, max_new_tokens=3)
    assert records == predict(model, processor, questions(9), batch_size=3, max_new_tokens=3, num_workers=2)
    assert [record["id"] for record in records] == [f"q{n}" for n in range(9)]


def test_neighbours_have_prompts_of_one_length():
    assert by_length(range(6), [3, 9, 4, 9, 3, 4]) == [1, 3, 2, 5, 0, 4]
    assert by_length([4, 2, 0], [3, 9, 4, 9, 3, 4]) == [2, 4, 0]


def test_neighbours_have_the_same_images():
    """The longest prompt of those about the same images decides where they come."""
    images = [None, "a", "b", "a", None, "b"]
    assert by_length(range(6), [3, 9, 4, 2, 5, 8], images) == [1, 3, 5, 2, 4, 0]
    assert by_length([0, 2, 3], [3, 9, 4, 2, 5, 8], images) == [2, 0, 3]


def about_films(folder: Path, films: int = 3, each: int = 4, frames: int = 4) -> list[Example]:
    """Questions about videos whose frames are files; those about one video do not follow each other."""
    videos = []
    for film in range(films):
        paths = [folder / f"{film}-{frame}.png" for frame in range(frames)]
        for frame, path in enumerate(paths):
            tiny.image(10 * film + frame).save(path)
        videos.append(Video(paths, interval=0.5))
    words = ["red", "blue cube", "green", "cubes are there"]
    return [
        Example(
            f"{n}-{film}", videos[film], f"what is left of the {words[n]}", "(A)", "t", ("cube", "sphere")
        )
        for n in range(each)
        for film in range(films)
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["qwen2_vl", "paligemma"])
def test_a_video_goes_through_the_vision_tower_once(kind, workers, tmp_path):
    if kind == "paligemma":
        model, processor = tiny.paligemma()
        tower = model.model.vision_tower
    else:
        model, processor = tiny_chat.load(tiny_chat.save_model(tmp_path, kind))
        tower = model.model.visual
    films = []

    def count(module, inputs, options, output):
        films.append(len(options["grid_thw"] if "grid_thw" in options else inputs[0]))

    tower.register_forward_hook(count, with_kwargs=True)
    examples = about_films(tmp_path)
    records = predict(model, processor, examples, batch_size=3, max_new_tokens=3, num_workers=workers)
    assert sum(films) == 3 * (4 if kind == "paligemma" else 1)
    opened = [replace(e, images=type(e.images)(e.open_images())) for e in examples]  # no names to share
    assert records == predict(model, processor, opened, batch_size=5, max_new_tokens=3)


class Looked(list):
    """Examples that write into a file that they were looked at, from whatever process."""

    def __init__(self, examples, file):
        super().__init__(examples)
        self.file = file

    def __getitem__(self, index):
        with self.file.open("a") as opened:
            opened.write(f"{index}\n")
        return super().__getitem__(index)


def test_a_worker_that_is_killed_ends_in_one_line(tmp_path):
    class Deadly(Looked):
        def __getitem__(self, index):
            if index == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(index)

    made = prepared(tiny.processor(), Deadly(questions(8), tmp_path / "looked"), [range(4), range(4, 8)], 2)
    with pytest.raises(UserError, match="was killed, likely for lack of memory; use a smaller --num_workers"):
        list(made)


def test_what_is_ahead_is_limited_in_bytes(tmp_path, monkeypatch):
    examples, size = Looked(questions(20), tmp_path / "looked"), 3 * tiny.IMAGE_SIZE**2 * 4
    monkeypatch.setattr(batches, "AHEAD", 3 * size + 1)
    made = prepared(tiny.processor(), examples, [[0, 1], *([n, n + 1] for n in range(2, 20, 2))], workers=2)
    next(made)
    time.sleep(0.5)  # for more, if there were no limit
    assert len(examples.file.read_text().split()) <= 2 + 3
    assert len([*made]) == 9 and len(examples.file.read_text().split()) == 20


@pytest.mark.slow
def test_workers_need_no_shared_memory():
    """As in a container, whose /dev/shm is small; one batch has more bytes than that."""
    mount = "mount -t tmpfs -o size=128k tmpfs /dev/shm"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system")
    command = f"{mount} && exec {sys.executable} {__file__}"
    paths = os.pathsep.join(sys.path)
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True, env=environment, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, "32 32"), done.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named(workers, tmp_path):
    examples, stream = questions(4), io.BytesIO()
    tiny.image(0).save(stream, "PNG")
    (tmp_path / "broken.png").write_bytes(stream.getvalue()[:100])
    examples[3] = replace(examples[3], images=(tmp_path / "broken.png",))
    model, processor = tiny.paligemma()
    with pytest.raises(UserError, match=r"image .*broken\.png cannot be read .*") as error:
        predict(model, processor, examples, batch_size=2, num_workers=workers)
    assert "\n" not in str(error.value)


if __name__ == "__main__":
    made = prepared(tiny.processor(), questions(64), [range(32), range(32, 64)], workers=2)
    print(*(len(batch.examples) for batch in made))
