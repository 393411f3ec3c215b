"""Truncated networks for other runtimes: ONNX, and PyTorch's own exported programs."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probe.backbones.tap_costs import blank_images
from probe.base.errors import ProbeError, reason
from probe.base.runtime import optional
from probe.truncation.model_file import CARD, check_model_file
from probe.truncation.truncated import Truncated

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


def export(model: Truncated, card: dict[str, Any], path: str | Path, form: str) -> None:
    """Write a truncated network in eval mode as `onnx`, or as `torch`: a program that `torch.export.load` reads.

    Preprocessed images `images` (n, c, h, w), as many as one likes, to `logits` (n, k); the card goes with
    it. Raises ProbeError when the file cannot be written, or for a network that cannot be exported.
    """
    place = Path(path)
    check_export(place, form)
    still = copy.deepcopy(model).eval().cpu()
    images = blank_images(still.trunk, 2, "cpu")  # of a single image the exporter would take the 1 for a constant
    write: Callable[[Truncated, Tensor, str, Path], None] = {"onnx": _onnx, "torch": _torch}[form]
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with torch.no_grad():
            write(still, images, json.dumps(card), place)
    except OSError as error:
        raise ProbeError(f"cannot write '{place}': {reason(error)}") from None
    except Exception as error:  # whatever an exporter raises for an operation it does not know
        raise ProbeError(f"{model.trunk.origin.arch} cannot be exported as {form}: {reason(error)}") from error


def check_export(path: Path, form: str) -> None:
    """Raise ProbeError when a network cannot be exported here; better known before the work than after."""
    if form not in SUFFIXES:
        raise ProbeError(f"export is '{form}'; choose from {', '.join(SUFFIXES)}")
    check_model_file(path, SUFFIXES[form])
    if form == "onnx":
        optional("onnxscript", "onnx", "exporting to ONNX")


def _torch(model: Truncated, images: Tensor, card: str, path: Path) -> None:
    program = torch.export.export(model, (images,), dynamic_shapes=_any_batch())
    torch.export.save(program, path, extra_files={CARD: card})


def _onnx(model: Truncated, images: Tensor, card: str, path: Path) -> None:
    program = torch.onnx.export(
        model,
        (images,),
        dynamo=True,
        dynamic_shapes=_any_batch(),
        input_names=["images"],
        output_names=["logits"],
        external_data=False,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props[CARD] = card
    program.save(path)


def _any_batch() -> Any:
    return ({0: torch.export.Dim("batch")},)
