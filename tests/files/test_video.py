"""The frames that are sampled are the ones that are meant, whatever a video is made of."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.files import video
from spatialvlm.worlds.rooms import rooms

FRAMES = 50


def grey(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Frame `number`: its number as a grey, with one bright corner at the top left."""
    picture = np.full((height, width, 3), 4 * number, np.uint8)
    picture[: height // 2, : width // 2] = 255
    return picture


def write(
    path: Path, key_every: int = 12, b_frames: int = 2, form: str | None = None, **options: str
) -> Path:
    with av.open(str(path), "w", format=form, options=options) as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "10", "bf": str(b_frames)})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", key_every
        for number in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(number))))
        container.mux(stream.encode())
    return path


def numbers(frames: video.Frames) -> list[int]:
    """Which frames of `grey` these are, read from their pixels."""
    return [round(float(np.asarray(image)[30:, 40:].mean()) / 4) for image in frames.images]


def test_uniform_is_the_benchmarks_rule():
    assert video.uniform(100, 8) == [0, 14, 28, 42, 56, 70, 84, 99]
    assert video.uniform(2400, 16)[-2:] == [2239, 2399]
    assert (
        video.uniform(5, 16) == [0, 1, 2, 3, 4] and video.uniform(5, 1) == [0] and video.uniform(0, 4) == []
    )
    for total in range(1, 60):
        for count in range(1, 20):
            taken = video.uniform(total, count)
            assert len(set(taken)) == min(total, count) and taken == sorted(taken)


@pytest.mark.parametrize("count", [1, 4, 16, 60])
@pytest.mark.parametrize(("key_every", "b_frames"), [(12, 2), (1, 0), (250, 3), (2, 1)])
def test_frames_of_a_video_are_the_ones_meant(tmp_path, key_every, b_frames, count):
    found = video.frames(write(tmp_path / "v.mp4", key_every, b_frames), count)
    assert numbers(found) == list(found.indices) == video.uniform(FRAMES, count)
    assert found.total == FRAMES and len(found) == min(count, FRAMES)
    assert all(image.mode == "RGB" and image.size == (64, 48) for image in found.images)


def test_a_container_without_a_frame_count(tmp_path):
    found = video.frames(str(write(tmp_path / "v.mkv")), 7)
    assert numbers(found) == video.uniform(FRAMES, 7)


def test_a_video_filmed_upright_is_shown_upright(tmp_path):
    """A phone's video lies on its side and says so in its header, which is written here as theirs is."""
    content = bytearray(write(tmp_path / "v.mp4").read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    turned = [0, 1 << 16, 0, (-1 << 16) % 2**32, 0, 0, 0, 0, 1 << 30]  # a quarter clockwise
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big") for value in turned)
    (tmp_path / "phone.mp4").write_bytes(content)
    image = video.frames(tmp_path / "phone.mp4", 1).images[0]
    assert image.size == (48, 64)
    bright = np.asarray(image)[..., 0] > 128  # the corner at the top left comes to the top right
    assert bright[:28, 28:].all() and not bright[36:].any() and not bright[:, :20].any()


def test_images_in_a_folder_are_taken_in_the_order_of_their_numbers(tmp_path):
    for number in range(12):
        Image.fromarray(grey(number)).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "poses.txt").write_text("0 0 0")
    (tmp_path / "._frame_0.png").write_bytes(b"what another system keeps there")
    found = video.frames(tmp_path, 5)
    assert numbers(found) == list(found.indices) == [0, 2, 5, 8, 11] and found.total == 12


def test_images_in_a_list(tmp_path):
    Image.fromarray(grey(2)).save(tmp_path / "2.png")
    listed = [Image.fromarray(grey(1)), tmp_path / "2.png", str(tmp_path / "2.png")]
    assert numbers(video.frames(listed)) == [1, 2, 2]


def test_only_what_is_sampled_of_a_room_is_drawn():
    class Counted(rooms.Film):
        drawn: list[int] = []

        def __getitem__(self, index: int) -> Image.Image:
            self.drawn.append(index)
            return super().__getitem__(index)

    room = rooms.make("test", 0, 1)
    found = video.frames(Counted(room, 48, 36), 4)
    assert found.total == len(room.path) and Counted.drawn == list(found.indices) and len(found) == 4
    for index, image in zip(found.indices, found.images, strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(rooms.Film(room, 48, 36)[index]))


def cut_short(path: Path) -> None:
    """Half of a video whose header lies in front, as a broken download leaves it."""
    whole = write(path, movflags="faststart").read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


def cut_before_header(path: Path) -> None:
    whole = write(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def damaged(path: Path) -> None:
    content = bytearray(write(path).read_bytes())
    start = content.index(b"mdat")
    length = int.from_bytes(content[start - 4 : start], "big")
    content[start + length // 2 : start + length - 8] = bytes(length - 8 - length // 2)
    path.write_bytes(content)


def without_pictures(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_short, "cannot be|cut short"),
        (cut_before_header, "cannot be read"),
        (damaged, "cannot be"),
        (without_pictures, "holds no images"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_text("<html>not found</html>"), "cannot be read"),
        (lambda path: None, "does not exist"),
        (Path.mkdir, "holds no image"),
    ],
)
def test_a_video_that_is_not_whole_is_named(tmp_path, spoil, message):
    path = tmp_path / "v.mp4"
    spoil(path)
    with pytest.raises(UserError, match=message) as error:
        video.frames(path, 16)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_frame_that_is_missing_or_broken_is_named(tmp_path):
    Image.fromarray(grey(1)).save(tmp_path / "1.png")
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "2.png"))):
        video.frames(tmp_path)
    with pytest.raises(UserError, match="3.png does not exist"):
        video.frames([tmp_path / "1.png", tmp_path / "3.png"])
    with pytest.raises(UserError, match="holds no image"):
        video.frames([])


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(UserError, match="notes.txt is no video"):
        video.frames(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="--num_frames must be at least 1, not 0"):
        video.frames(tmp_path, 0)
