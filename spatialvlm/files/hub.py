"""Single files of data sets on the Hugging Face hub: videos, lists of ids and the like."""

from __future__ import annotations

from pathlib import Path

from spatialvlm.cli import UserError
from spatialvlm.files import rows


def has(path: str | Path) -> bool:
    """Whether `path` means a data set on the hub, and no file or folder here."""
    return not Path(path).exists() and rows.is_hub_id(path)


def file(name: str | Path, path: str) -> Path:
    """A file of the data set `name`, from the hub's cache where it is there.

    Raises:
        UserError: it cannot be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(str(name), path, repo_type="dataset"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{name} is no file or folder here, and its {path} cannot be had from the hub: {reason}; check "
            "the name and the network, or log in with `hf auth login` where it is gated"
        ) from None
