"""Where training stands, in one file that is replaced as a whole after every epoch."""

import io
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from probe.base.errors import ProbeError, reason


def keep(path: Path, request: str, state: dict[str, Any]) -> None:
    """Write what training goes on from; a kill leaves the file as it was before, or whole. Raises ProbeError."""
    new = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = io.BytesIO()
        torch.save({"request": request, **state}, held)
        with new.open("wb") as file:
            file.write(held.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise ProbeError(f"cannot write the checkpoint '{path}': {reason(error)}") from None


def recall(path: Path, request: str) -> dict[str, Any] | None:
    """What was kept, on the CPU; None when there is no file. Nothing in it is run.

    Raises ProbeError for a file that is damaged, and for one of other data, weights, settings or versions.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        same = state["request"] == request
    except Exception as error:  # the unpickler raises whatever the first wrong byte leads to
        raise ProbeError(f"'{path}' is no readable checkpoint: {reason(error)}; delete it to start anew") from None
    if not same:
        raise ProbeError(
            f"'{path}' was left by training with other data, weights, settings or versions; delete it to start anew, "
            "or choose another place"
        )
    return dict(state)
