"""Small videos, for tests."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def write(path: Path, frames: int = 12, rate: int = 4, width: int = 32, height: int = 24) -> Path:
    """An mp4 whose frames are grey, each brighter than the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            picture = np.full((height, width, 3), 20 + 16 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path
