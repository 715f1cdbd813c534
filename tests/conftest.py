"""What every test may use: real data where it lies, and a PaliGemma 2 small enough to make in a second."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before the libraries are imported: no test may reach for the network
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="datasets-")  # nor leave tables in the user's cache
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import pytest
import tiny
import torch
from hub_server import HubServer
from huggingface_hub import HfFileSystem, constants

atexit.register(shutil.rmtree, os.environ["HF_DATASETS_CACHE"], ignore_errors=True)
torch.set_num_threads(1)  # tiny matrices: more threads cost time and would let sums come out in another order


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first: a long file that starts last leaves the other cores idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real samples: REAL_DATA, or `shared/data` beside the repository; skips where absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real samples at {folder} (set REAL_DATA to their folder)")
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[HubServer]:
    """A hub on loopback that the libraries of this process use, with empty caches."""
    with HubServer() as server:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        address = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        HfFileSystem.clear_instance_cache()
        yield server
    HfFileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def tiny_paligemma():
    """(model, processor): random weights, 28 px, 4 image tokens, float32, eager. Leave it as you found it."""
    return tiny.paligemma()
