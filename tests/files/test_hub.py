"""The hub: only the split asked for and only what is read of it is fetched, once; pins; refusals."""

import errno
import itertools
import multiprocessing
import os
import signal
import time

import hub_rows
import pytest
import test_cvbench
import tiny
import videos
from pyarrow import parquet
from test_cvbench import png

from spatialvlm.errors import UserError
from spatialvlm.files import hub as hubs
from spatialvlm.files import rows, tables
from spatialvlm.images import open_image
from spatialvlm.run_folder import DataSource, fingerprint
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.sat import data as sat
from spatialvlm.tasks.vsi import data as vsibench

SAT = "array/SAT"
TRAIN = (SAT, "SAT_train.parquet")


@pytest.fixture(scope="module")
def content():
    return hub_rows.sat(800, padding=8000)


@pytest.fixture
def large(hub, content, monkeypatch):
    """SAT whose train file has 800 rows in one row group, 17 MB, and blocks in proportion."""
    monkeypatch.setattr(hubs, "BLOCK", 2**16)
    monkeypatch.setattr(tables, "IN_MEMORY", 2**20)
    monkeypatch.setattr(tables, "PART_BYTES", 2**18)
    monkeypatch.setattr(tables, "READ_AHEAD", 2**16)
    hub.add(SAT, content)
    return hub


def test_a_limit_fetches_its_fraction_of_one_file(large, content):
    size = len(content[TRAIN[1]])
    found = sat.load(SAT, "train", limit=150)
    assert len(found) == 150 and found[149].question == "What moved in 199?"  # every fourth has two images
    needed = size * 200 / 800
    assert needed < large.sent[TRAIN] < 1.2 * needed + 30 * 2**16, large.sent
    assert {path for _, path in large.sent} == {"SAT_train.parquet", "README.md"}
    large.reset()
    assert len(sat.load(SAT, "train", limit=150)) == 150 and not large.sent, "a second start fetches nothing"
    assert len(sat.load(SAT, "train", limit=300)) == 300
    assert large.sent[TRAIN] < 1.2 * needed + 30 * 2**16, "and a longer one what is missing"
    assert len(sat.load(SAT, "train")) == 600
    assert large.sent[TRAIN] <= size, "each byte is fetched once"


def test_another_split_is_another_file(hub):
    hub.add(SAT, hub_rows.sat())
    for split in ("test", "static", "val", "validation"):
        hub.reset()
        assert len(sat.load(SAT, split, max_images=2)) == 6
        named = f"SAT_{'val' if split == 'validation' else split}.parquet"
        assert {path for _, path in hub.sent} <= {named, "README.md"}
    with pytest.raises(UserError, match="no split 'dev2' on the hub, but train, static, val, test"):
        sat.load(SAT, "dev2")


def test_configurations_and_shards(hub):
    hub.add(cvbench.HUB_ID, hub_rows.cvbench())
    hub.add("MMInstruction/Clevr_CoGenT_ValB", hub_rows.cogent())
    assert [example.task for example in cvbench.load(tasks=["Count"])] == ["Count"] * 2
    assert {path for _, path in hub.sent} == {"README.md", "test_2d.parquet"}
    found = cvbench.load()
    assert [example.task for example in found] == ["Count", "Relation"] * 2 + ["Depth", "Distance"] * 2
    assert found[5].open_images()[0].tobytes() == hub_rows.opened(hub_rows.image(5)).tobytes()
    hub.reset()
    assert [example.id for example in cvbench.load(tasks=["Depth"])] == ["cvbench-4", "cvbench-6"]
    assert {path for _, path in hub.sent} <= {"README.md"}, "it is here, in a file of its own"
    names = [name for name, _ in rows.read(cvbench.HUB_ID, "test", "3D")]
    assert names == [f"{cvbench.HUB_ID} test row {number}" for number in range(4)]
    assert len(rows.read(cvbench.HUB_ID, "test", "no such")) == 8
    shards = clevr.load("MMInstruction/Clevr_CoGenT_ValB")
    assert [example.answer for example in shards] == list("012345")
    assert shards[4].id == "clevr-train-4" and shards[4].open_images()[0].mode == "RGB"


def test_a_revision_is_pinned_and_recorded(hub):
    first = hub.add(SAT, hub_rows.sat(5))
    hub.add(SAT, hub_rows.sat(5), "refs/pr/1")
    second = hub.add(SAT, hub_rows.sat(9))
    counts = {"": 9, "@main": 9, f"@{first}": 5, f"@{second}": 9, "@refs/pr/1": 5}
    for pin, count in counts.items():
        assert len(sat.load(SAT + pin, max_images=2)) == count
    assert DataSource("sat", {"path": f"{SAT}@main"}).record()["revision"] == second == fingerprint(SAT)
    assert fingerprint(f"{SAT}@{first}") == first != fingerprint(f"{SAT}@refs/pr/1") is not None
    with pytest.raises(UserError, match="array/SAT has no revision 'v7' on the hub"):
        sat.load(f"{SAT}@v7")


def test_a_process_reads_one_commit_whatever_is_published_meanwhile(hub):
    first = hub.add(SAT, hub_rows.sat(5))
    assert len(sat.load(SAT, max_images=2)) == 5
    hub.add(SAT, hub_rows.sat(9))
    assert len(sat.load(SAT, max_images=2)) == 5 and fingerprint(SAT) == first


def test_vsibench_at_a_revision_with_its_own_videos(hub, tmp_path):
    film = videos.write(tmp_path / "film.mp4").read_bytes()
    scenes = {f"scannet/scene{number:04}_00": film + bytes(200_000) for number in range(30)}
    old = hub_rows.vsibench({"scannet/scene0001_00": film})
    del old["test.jsonl"]
    old["data/test-00000-of-00001.parquet"] = old["test_pruned.parquet"]
    old["README.md"] = hub_rows.card({"default": {"test": "data/test-*"}})
    old = hub.add(vsibench.HUB_ID, old)
    hub.add(vsibench.HUB_ID, hub_rows.vsibench(scenes))
    assert len(vsibench.load()) == 30 and len(vsibench.load(subset="debiased")) == 15
    assert len(vsibench.load(f"{vsibench.HUB_ID}@{old}")) == 1
    assert vsibench.scenes(f"{vsibench.HUB_ID}@{old}") == {"scene0001_00"}
    hub.reset()
    (found,) = vsibench.load_with_frames(None, 4, limit=1)
    assert len(found.open_images()) == 4
    archive = hub.sent[vsibench.HUB_ID, "scannet.zip"]
    assert 200_000 < archive < 3_200_000 < 30 * 200_000, "one video of thirty is not all of the archive"
    (found,) = vsibench.load_with_frames(None, 4, path=f"{vsibench.HUB_ID}@{old}")
    assert "vsibench@" in str(next((tmp_path / "cache/spatialvlm").glob("vsibench@*/scannet/*.mp4")))


# ---- refusals, and a network that breaks


def test_ids_are_told_from_places_on_this_machine():
    for id in ("array/SAT", "array/SAT@main", "array/SAT@refs/pr/1", "nyu-visionx/CV-Bench@v1.0"):
        assert hubs.is_hub_id(id)
    for path in ("SAT", "a/b/c", "./a/b", "../a", "~/a", "/a", "a/b.parquet", "a/b@2.jsonl", "a/", ""):
        assert not hubs.is_hub_id(path)
    assert hubs.without_revision("array/SAT@refs/pr/1") == "array/SAT"
    assert hubs.without_revision("rows@home.jsonl") == "rows@home.jsonl"


def test_what_is_not_there_is_named(hub):
    hub.add(SAT, hub_rows.sat())
    hub.add("owner/tables", {"data.csv": "a,b\n1,2\n"})
    hub.add("owner/nothing", {"README.md": "# Nothing yet"})
    hub.add("owner/photos", {"train/a.png": png(0)})
    hub.gated.add("owner/gated")
    hub.add("owner/gated", hub_rows.sat())
    for id, message in {
        "array/SATs": "array/SATs is no file or folder here, .* no such data set, or a private one",
        "owner/gated": "owner/gated .* it is gated: accept its conditions on its page, and log in with `hf",
        "owner/tables": "owner/tables: data.csv is none of .parquet, .jsonl, .json",
        "owner/nothing": "owner/nothing: it has none of .parquet, .jsonl, .json",
        "owner/photos": "owner/photos: train/a.png is none of .parquet, .jsonl, .json",
        f"array/SAT@{'a' * 40}": f"array/SAT has no revision '{'a' * 40}' on the hub",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            sat.load(id)
        assert "\n" not in str(caught.value)
    hub.add(vsibench.HUB_ID, {"test.jsonl": hub_rows.vsibench({"scannet/s": b""})["test.jsonl"]})
    with pytest.raises(UserError, match="has no file scannet.zip on the hub; give another revision"):
        vsibench.load_with_frames(None, 4)


@pytest.mark.parametrize("folder", ["", "data/"])
def test_images_lie_beside_the_rows(hub, folder):
    """Relative to the rows' file or to the data set; each is fetched once."""
    data = [test_cvbench.row(n) | {"image": {"path": f"images/{n}.png", "bytes": None}} for n in range(3)]
    content = {f"{folder}images/{n}.png": png(n) for n in range(2)} | {"images/2.png": png(2)}
    hub.add("owner/rows", content | {f"{folder}test.jsonl": hub_rows.as_jsonl(data)})
    examples = cvbench.load("owner/rows")
    for number, example in enumerate(examples):
        assert open_image(example.images[0]).tobytes() == tiny.image(number).tobytes()
    assert all(hub.asked["owner/rows", path] == 1 for path in content)
    hub.add("owner/rows", {"test.jsonl": hub_rows.as_jsonl(data)})
    hubs._COMMITS.clear()
    with pytest.raises(UserError, match="owner/rows test row 0: image images/0.png does not exist"):
        cvbench.load("owner/rows")


def test_a_connection_that_breaks_is_tried_again(large, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    large.breaks += [100, 40_000]
    assert len(sat.load(SAT, limit=150)) == 150


def test_a_full_disk_ends_in_one_line_that_says_what_is_needed(large, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(UserError) as caught:
        patched.setattr(os, "pwrite", full)
        sat.load(SAT, limit=60)
    message = str(caught.value)
    assert "no space left to write" in message and "\n" not in message
    assert "set XDG_CACHE_HOME to another folder: all of SAT_train.parquet takes 0.0 GB there" in message
    assert len(sat.load(SAT, limit=60)) == 60  # once there is space


def test_what_was_fetched_stays_when_the_network_goes(large, content, monkeypatch, capfd):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert len(sat.load(SAT, limit=60)) == 60
    fetched = large.sent[TRAIN]
    large.breaks += [10] * 100
    with pytest.raises(UserError) as caught:
        sat.load(SAT, limit=600)
    message = str(caught.value)
    assert "Retry" not in capfd.readouterr().err, "one line is enough"
    assert "SAT_train.parquet cannot be downloaded" in message and "\n" not in message
    assert "what was fetched stays, and the same command continues" in message
    large.breaks.clear()
    assert len(sat.load(SAT)) == 600
    assert large.sent[TRAIN] < len(content[TRAIN[1]]) + 2**16 and fetched > 2**16


def _load(start, answers):
    start.wait()
    answers.put([example.question for example in sat.load(SAT, limit=150)][-1])


def test_processes_that_start_together_fetch_each_byte_once(large, content):
    context = multiprocessing.get_context("fork")
    start, answers = context.Event(), context.Queue()
    processes = [context.Process(target=_load, args=(start, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    assert [answers.get(timeout=60) for _ in processes] == ["What moved in 199?"] * 3
    for process in processes:
        process.join()
    needed = len(content[TRAIN[1]]) * 200 / 800
    assert large.sent[TRAIN] < 1.2 * needed + 30 * 2**16


def _die_while_fetching(point):
    calls = itertools.count()
    write = os.pwrite

    def pwrite(*arguments):
        if next(calls) == point:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(*arguments)

    os.pwrite = pwrite
    sat.load(SAT)


@pytest.mark.parametrize("point", [10, 11])
def test_a_fetch_that_was_killed_continues(large, content, point):
    """Between a block's content and its mark, and before it."""
    process = multiprocessing.get_context("fork").Process(target=_die_while_fetching, args=(point,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and large.sent[TRAIN] > 5 * 2**16
    size = len(content[TRAIN[1]])
    found = sat.load(SAT, max_images=2)
    assert [example.question for example in found] == [f"What moved in {number}?" for number in range(800)]
    assert large.sent[TRAIN] <= size + hubs.AHEAD * hubs.BLOCK, "at most what was under way comes twice"


def test_without_a_network_what_was_read_is_read_again(hub, monkeypatch, capsys):
    hub.add(SAT, hub_rows.sat())
    assert len(sat.load(SAT, max_images=2)) == 24
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hubs._COMMITS.clear()  # as a new process
    hub.away = True
    assert len(sat.load(SAT, max_images=2)) == 24
    assert "Reading the last one that is here" in capsys.readouterr().err
    with pytest.raises(UserError, match="cannot be downloaded: .*; check the name and the network"):
        sat.load("array/SAT-v2")


def test_without_a_network_the_librarys_own_copy_will_do(hub, tmp_path, monkeypatch):
    """As `hf download` leaves it, on a cluster whose nodes have no network."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    folder = tmp_path / "hf/datasets--array--SAT"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("1" * 40)
    (folder / f"snapshots/{'1' * 40}").mkdir(parents=True)
    hub.away = True
    with pytest.raises(UserError, match="the list of its files cannot be downloaded"):
        sat.load(SAT, "static")  # no rows there
    for name, content in hub_rows.sat().items():
        (folder / f"snapshots/{'1' * 40}/{name}").write_bytes(content if name != "README.md" else b"")
    assert len(sat.load(SAT, "static", max_images=2)) == 6


def test_a_file_is_read_as_it_is(large, content):
    """Whatever is read of it and in whatever order."""
    whole = content[TRAIN[1]]
    file = hubs.open_file(SAT, TRAIN[1])
    end = len(whole)
    for start, count in ((0, 4), (end - 8, 8), (70_000, 200_000), (65_535, 2), (end - 3, 100), (5, 0)):
        file.seek(start)
        assert file.read(count) == whole[start : start + count] and file.tell() == min(start + count, end)
    assert parquet.ParquetFile(file).metadata.num_rows == 800
    assert large.sent[TRAIN] < 20 * 2**16
