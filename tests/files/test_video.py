"""The frames that are sampled are the ones that are meant, whatever a video is made of."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.files import video
from spatialvlm.worlds.clevr import rooms

FRAMES = 50


def grey(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Frame `number`: its number as a grey, with one bright corner at the top left."""
    picture = np.full((height, width, 3), 4 * number, np.uint8)
    picture[: height // 2, : width // 2] = 255
    return picture


def write(
    path: Path,
    key_every: int = 12,
    b_frames: int = 2,
    form: str | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    times: Sequence[int] = range(FRAMES),
    aspect: Fraction = Fraction(1),
    encoder: Mapping[str, str] = {},  # noqa: B006
    **options: str,
) -> Path:
    """A video of the first frames of `grey`, at `times` of a 24th of a second."""
    if codec == "libx264":
        encoder = {"crf": "10", **encoder}
    with av.open(str(path), "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=24, options={"bf": str(b_frames), **encoder})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *size, pixels, key_every
        stream.bit_rate = 0 if codec in ("libx264", "gif") else 4_000_000
        stream.codec_context.sample_aspect_ratio = aspect
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(grey(number, *size))
            frame.pts, frame.time_base = time, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    """The (kind, content) of what lies in an MP4 file or one of its boxes."""
    found = []
    while content:
        length = int.from_bytes(content[:4], "big")
        found.append((content[4:8], content[8:length]))
        content = content[length:]
    return found


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def edit(path: Path, *segments: tuple[int, int | None], version: int = 0) -> Path:
    """Write an MP4's edit list: (how many frames, from which on; None: nothing is shown so long)."""
    entries = b""

    def changed(kind: bytes, content: bytes) -> bytes:
        nonlocal entries
        if kind == b"trak":
            old = dict(boxes(content)).get(b"edts", bytes(24))
            shift = int.from_bytes(old[20:24], "big")  # B frames are decoded so much earlier
            for count, first in segments:  # 512 units of media and 1000 / 24 of the film per frame
                values = (count * 1000 // 24, -1 if first is None else shift + 512 * first, 1 << 16)
                entries += struct.pack(">Qqi" if version else ">Iii", *values)
        if kind == b"edts":
            return box(kind, box(b"elst", struct.pack(">II", version << 24, len(segments)) + entries))
        if kind in (b"moov", b"trak"):
            content = b"".join(changed(*inner) for inner in boxes(content))
        return box(kind, content)

    path.write_bytes(b"".join(changed(*each) for each in boxes(path.read_bytes())))
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


TRIMMED = {
    "start, the key frame hidden": (dict(), [(40, 10)], range(10, 50)),
    "both, only key frame hidden": (dict(key_every=250, b_frames=3), [(30, 9)], range(9, 39)),
    "end": (dict(), [(30, 0)], range(30)),
    "64 bits": (dict(), [(30, 9)], range(9, 39)),
    "delayed": (dict(), [(24, None), (50, 0)], range(50)),
    "delayed and trimmed": (dict(), [(24, None), (20, 17)], range(17, 37)),
    "two segments": (dict(key_every=250, b_frames=3), [(9, 11), (13, 27)], [*range(11, 20), *range(27, 40)]),
    "one frame twice": (dict(b_frames=0), [(20, 0), (20, 10)], [*range(20), *range(10, 30)]),
    "last segment first": (dict(), [(10, 30), (10, 3)], [*range(30, 40), *range(3, 13)]),
}


@pytest.mark.parametrize("kind", TRIMMED)
def test_a_trimmed_video_shows_what_a_player_shows(tmp_path, kind):
    made, segments, shown = TRIMMED[kind]
    path = edit(write(tmp_path / "v.mp4", **made), *segments, version=kind == "64 bits")
    for count in (100, 7, 1):
        found = video.frames(path, count)
        assert found.total == len(shown)
        assert numbers(found) == [shown[number] for number in video.uniform(len(shown), count)]
    assert video.frames(path, 2).interval == pytest.approx((len(shown) - 1) / 24, abs=1 / 24)


@pytest.mark.parametrize(("name", "total"), [("phone_trim", 30), ("trim10", 40)])
def test_the_published_trimmed_videos(real_data, name, total):
    """Each of their frames is brighter than the one before."""
    found = video.frames(real_data / f"field_cases/v1-edit-list/{name}.mp4", 100)
    greys = [float(np.asarray(image.convert("L"))[30:, 40:].mean()) for image in found.images]
    assert found.total == total == len(set(greys)) and greys == sorted(greys)


UNEVEN = np.cumsum([1, 1, 1, 5, 1, 2, 1, 30, 1, 1] * 5).tolist()
FORMS = {
    "v.mkv": dict(),
    "v.mov": dict(),
    "fragmented.mp4": dict(movflags="frag_keyframe+empty_moov"),
    "open groups.mp4": dict(encoder={"x264-params": "open-gop=1"}, b_frames=3),
    "without edit list.mp4": dict(use_editlist="0"),
    "uneven.mp4": dict(times=UNEVEN),
    "uneven.mkv": dict(times=UNEVEN),
    "h264.avi": dict(b_frames=3, key_every=250),  # AVI says when a frame is decoded, not when it is shown
    "mpeg4.avi": dict(codec="mpeg4"),
    "mpeg1.avi": dict(codec="mpeg1video"),
    "mjpeg, all of the range.avi": dict(codec="mjpeg", pixels="yuvj420p", b_frames=0),
    "v.ts": dict(),
    "beyond 33 bits.ts": dict(b_frames=3, output_ts_offset="95443.0"),
    "v.mpg": dict(codec="mpeg2video"),
    "hidden frames.webm": dict(
        codec="libvpx", b_frames=0, encoder={"auto-alt-ref": "1", "lag-in-frames": "16"}
    ),
    "odd.webm": dict(codec="libvpx-vp9", b_frames=0, size=(63, 47), encoder={"deadline": "realtime"}),
    "v.gif": dict(codec="gif", pixels="rgb8", b_frames=0),
    "10 bits.mp4": dict(pixels="yuv420p10le"),
    "full range.mp4": dict(pixels="yuvj420p"),
    "one.mp4": dict(times=[0]),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_shows_its_frames(tmp_path, name):
    made = FORMS[name]
    total = len(made.get("times", range(FRAMES)))
    path = write(tmp_path / name, **made)
    for count in (100, 7):
        found = video.frames(path, count)
        assert found.total == total and list(found.indices) == video.uniform(total, count)
        coarse = 8 if name == "v.gif" else 1
        assert np.abs(np.subtract(numbers(found), found.indices)).max() <= coarse, numbers(found)
        assert {image.size for image in found.images} == {made.get("size", (64, 48))}


def test_the_name_of_a_video_does_not_say_what_it_is(tmp_path):
    write(tmp_path / "v.mp4").rename(tmp_path / "v.avi")
    assert numbers(video.frames(tmp_path / "v.avi", 5)) == video.uniform(FRAMES, 5)


def test_a_recording_that_begins_between_key_frames(tmp_path):
    """Packets before the first key frame, 12, and what refers to them show nothing."""
    content = write(tmp_path / "v.ts").read_bytes()
    (tmp_path / "v.ts").write_bytes(content[: 3 * 188] + content[20 * 188 :])
    found = video.frames(tmp_path / "v.ts", 100)
    assert numbers(found) == list(range(FRAMES - found.total, FRAMES)) and 25 < found.total < 45


def test_an_avi_counts_the_frames_that_its_recording_dropped(tmp_path):
    content = bytearray(write(tmp_path / "v.avi", codec="mjpeg", pixels="yuvj420p", b_frames=0).read_bytes())
    for header, place in ((b"avih", 24), (b"strh", 40)):
        at = content.index(header) + place
        assert int.from_bytes(content[at : at + 4], "little") == FRAMES
        content[at : at + 4] = (FRAMES + 2).to_bytes(4, "little")
    (tmp_path / "v.avi").write_bytes(content)
    assert numbers(video.frames(tmp_path / "v.avi", 7)) == video.uniform(FRAMES, 7)


def test_a_title_in_another_encoding(tmp_path):
    path = write(tmp_path / "v.mp4")
    with av.open(str(path), metadata_errors="replace") as container:
        encoder = container.metadata["encoder"].encode()
    path.write_bytes(path.read_bytes().replace(encoder, b"Caf\xe9".ljust(len(encoder))))
    assert numbers(video.frames(path, 5)) == video.uniform(FRAMES, 5)


def test_recordings_that_were_joined(tmp_path):
    parts = [write(tmp_path / f"{total}.ts", times=range(total)) for total in (20, 30)]
    (tmp_path / "v.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert numbers(video.frames(tmp_path / "v.ts", 100)) == [*range(20), *range(30)]


def test_a_broadcast_in_which_another_programme_begins(tmp_path):
    """A packet with a stream's first bytes under an id that no table of the file names."""
    content = write(tmp_path / "v.ts").read_bytes()
    begin = b"\x00\x00\x01\xe0\x00\x00\x80\x80\x05\x21\x00\x01\x00\x01"
    packets = [
        b"\x47" + bytes([0x42, number, 0x10 + at]) + begin.ljust(184, b"\x01")
        for at, number in [(0, 0), (1, 0)]
    ]
    (tmp_path / "v.ts").write_bytes(content + b"".join(packets))
    assert numbers(video.frames(tmp_path / "v.ts", 5)) == video.uniform(FRAMES, 5)


# (x to x, x to y, y to x, y to y), and where the bright corner of `grey` is then
MATRICES = {
    "as it is": ((1, 0, 0, 1), "top left"),
    "a quarter clockwise": ((0, 1, -1, 0), "top right"),
    "half": ((-1, 0, 0, -1), "bottom right"),
    "a quarter back": ((0, -1, 1, 0), "bottom left"),
    "mirrored": ((-1, 0, 0, 1), "top right"),
    "on its head": ((1, 0, 0, -1), "bottom left"),
    "mirrored and a quarter": ((0, 1, 1, 0), "top left"),
    "mirrored and a quarter back": ((0, -1, -1, 0), "bottom right"),
}


@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(4, 3), Fraction(1, 2)])
@pytest.mark.parametrize("kind", MATRICES)
def test_a_video_is_shown_as_its_header_says(tmp_path, kind, aspect):
    """A phone's video lies on its side and says so in its header, which is written here as theirs is."""
    content = bytearray(write(tmp_path / "v.mp4", times=range(2), aspect=aspect).read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    (xx, xy, yx, yy), corner = MATRICES[kind]
    values = [xx << 16, xy << 16, 0, yx << 16, yy << 16, 0, 0, 0, 1 << 30]
    content[matrix : matrix + 36] = b"".join((value % 2**32).to_bytes(4, "big") for value in values)
    (tmp_path / "phone.mp4").write_bytes(content)
    image = video.frames(tmp_path / "phone.mp4", 1).images[0]
    size = (round(64 * max(aspect, 1)), round(48 / min(aspect, 1)))
    assert image.size == (size if xx else size[::-1])
    bright = np.asarray(image.resize((8, 8)))[..., 0] > 128
    rows, columns = np.arange(8)[:, None] < 4, np.arange(8) < 4
    expected = (rows if "top" in corner else ~rows) & (columns if "left" in corner else ~columns)
    assert (bright == expected).mean() > 0.9


def test_images_in_a_folder_are_taken_in_the_order_of_their_numbers(tmp_path):
    for number in range(12):
        Image.fromarray(grey(number)).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "poses.txt").write_text("0 0 0")
    (tmp_path / "._frame_0.png").write_bytes(b"what another system keeps there")
    found = video.frames(tmp_path, 5)
    assert numbers(found) == list(found.indices) == [0, 2, 5, 8, 11] and found.total == 12


def test_depth_maps_beside_the_frames_are_none(tmp_path):
    """7-Scenes and ScanNet's reader write both; of what cannot be told apart two are named."""
    for number in range(4):
        Image.fromarray(grey(number)).save(tmp_path / f"frame-{number:06}.color.png")
        Image.fromarray(grey(40)).save(tmp_path / f"frame-{number:06}.depth.png")
    assert numbers(video.frames(tmp_path)) == [0, 1, 2, 3]
    (tmp_path / "frame-000002.color.png").rename(tmp_path / "frame-000002.jpg")
    for place in tmp_path.glob("*.color.png"):
        place.rename(place.with_name(place.name.replace(".color", "")))
    with pytest.raises(UserError, match="holds two images of one number, frame-00000..* and frame-00000"):
        video.frames(tmp_path)


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

    room = rooms.make("test", 1)
    found = video.frames(Counted(room, 48, 36), 4)
    assert found.total == rooms.FRAMES and Counted.drawn == list(found.indices) and len(found) == 4
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


def without_pictures(path: Path, cover: bool = False) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        if cover:
            still = container.add_stream("mjpeg", rate=1)
            still.width, still.height, still.pix_fmt = 64, 48, "yuvj420p"
            still.disposition = Disposition.attached_pic
            container.mux(still.encode(av.VideoFrame.from_ndarray(grey(1))))
            container.mux(still.encode())
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())


def cut(fraction: float, suffix: str, **made) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        content = write(path.with_suffix(suffix), **made).read_bytes()
        path.write_bytes(content[: int(len(content) * fraction)])

    return spoil


def of_two_sizes(path: Path) -> None:
    """Two recordings, one behind the other."""
    ends = [
        write(path.with_name("a.ts"), times=range(6)),
        write(path.with_name("b.ts"), times=range(6, 12), size=(96, 64)),
    ]
    path.write_bytes(b"".join(each.read_bytes() for each in ends))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut(0.97, ".mp4", movflags="faststart"), "cut short: 4. of 50 frames"),
        (cut(0.8, ".mp4", movflags="faststart"), "cut short: 2. of 50 frames"),
        (cut(0.8, ".mkv"), "cut short: 1.. of 2.1 seconds"),
        (cut(0.5, ".webm", codec="libvpx-vp9", b_frames=0), "cut short: ... of 2.1 seconds"),
        (cut(0.8, ".avi", codec="mpeg4"), "cut short: 3. of 50 frames"),
        (cut(0.5, ".mpg", codec="mpeg2video"), "is damaged at frame"),
        (lambda path: edit(write(path), (5, None)), "holds no images"),
        (lambda path: edit(write(path), (10, 60)), "holds no images"),
        (lambda path: without_pictures(path, cover=True), "holds no images"),
        (lambda path: path.write_bytes(write(path).read_bytes().replace(b"avc1", b"zzzz")), "does not know"),
        (of_two_sizes, "changes from 64 x 48 to 96 x 64 pixels"),
        (cut_short, "cannot be|cut short"),
        (cut_before_header, "cannot be read"),
        (damaged, "cannot be"),
        (without_pictures, "holds no images"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        (lambda path: path.write_text("<html>not found</html>"), "is a web page"),
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
