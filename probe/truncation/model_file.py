"""A truncated network as one file: its tensors, and a card that says all that is needed to build it again."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from probe.backbones import Origin, Preprocessing
from probe.backbones.catalog import find_source
from probe.backbones.state_dicts import check_fit, hash_tensors
from probe.backbones.tap_costs import blank_images, latency
from probe.backbones.tracing import mode
from probe.base.errors import ProbeError, reason
from probe.base.runtime import check_folder, versions
from probe.settings import Head
from probe.tasks import read_task
from probe.truncation.halved_top import halve_top
from probe.truncation.heads import make_head
from probe.truncation.truncated import Truncated

FORMAT = 1
CARD = "card"  # its name in the file's metadata


def save(model: Truncated, path: str | Path) -> dict[str, Any]:
    """Write a truncated network to a `.safetensors` file, in one step, and return its card.

    The card is JSON in the file's metadata: architecture, level, tap, head, classes, preprocessing, where the
    weights came from, a hash of all tensors, parameters, MACs, and the latency of one image, measured here and
    now; `halved` counts the stages, from the cut down, of half the architecture's width.

    Raises ProbeError when the file cannot be written or could not be loaded back.
    """
    place = Path(path)
    check_model_file(place)
    find_source(model.trunk.origin.arch)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.weights().items()}
    card = {**describe(model), "hash": hash_tensors(tensors)}
    write_tensors(place, tensors, {CARD: json.dumps(card)})
    return card


def write_tensors(place: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a `.safetensors` file in one step. Raises ProbeError when that cannot be done."""
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f".{place.name}.{uuid4().hex}")
    try:
        new.write_bytes(to_bytes(tensors, metadata))  # its own writer leaves a file only its owner reads
        new.replace(place)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise ProbeError(f"cannot write '{place}': {reason(error)}") from None


def load(path: str | Path) -> Truncated:
    """The truncated network that `save` wrote, in eval mode on the CPU; nothing is fetched and no code is run.

    Raises ProbeError for a file that is missing, damaged or of another kind, and for one whose tensors are not
    those of the network that its card describes.
    """
    place = Path(path)
    card = read_card(place)
    try:
        model = _rebuild(card)
    except (LookupError, TypeError, ValueError) as error:  # ProbeError is a ValueError
        words = str(error) if isinstance(error, ProbeError) else f"its card is damaged: {error!r}"
        raise ProbeError(f"'{place}' cannot be built: {words}") from None
    with safe_open(place, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    mine = model.weights()
    check_fit(tensors, mine, place)
    if hash_tensors(tensors) != card["hash"]:
        raise ProbeError(f"'{place}' is damaged: its tensors are not those that were saved")
    with torch.no_grad():
        for name, tensor in tensors.items():
            mine[name].copy_(tensor)
    return model


def read_card(path: str | Path) -> dict[str, Any]:
    """The card of a file that `save` wrote. Raises ProbeError for any other file."""
    place = Path(path)
    if not place.is_file():
        raise ProbeError(f"no model at '{place}': give a .safetensors file that 'probe truncate' wrote")
    try:
        with safe_open(place, "pt") as file:
            found = (file.metadata() or {}).get(CARD)
    except (SafetensorError, OSError) as error:
        raise ProbeError(f"'{place}' is not a readable .safetensors file: {reason(error)}") from None
    if found is None:
        raise ProbeError(f"'{place}' holds tensors but no card of a truncated network; 'probe truncate' makes one")
    try:
        card = json.loads(found)
        known = card["format"] == FORMAT
    except (ValueError, TypeError, LookupError):
        raise ProbeError(f"the card of '{place}' is damaged") from None
    if not known:
        raise ProbeError(f"'{place}' is of format {card['format']}; this version reads format {FORMAT}")
    return dict(card)


def describe(model: Truncated) -> dict[str, Any]:
    """The card, but for the hash of the tensors."""
    origin = model.trunk.describe()
    device = str(next(model.parameters()).device)
    with mode(model, training=False), torch.inference_mode():
        measured = latency(model, blank_images(model.trunk, 1, device))
    return {
        "format": FORMAT,
        **{key: origin[key] for key in ("arch", "level", "modules", "preprocessing")},
        "tap": model.tap,
        "halved": model.halved,
        "head": asdict(model.settings),
        "classes": model.classes,
        "task": model.task.name,
        "source": {"weights": origin["weights"], "seed": origin["seed"], "hash": model.source_hash},
        "params": model.params,
        "macs": model.macs,
        "latency": measured,
        "versions": versions(),
    }


def check_model_file(path: Path, suffix: str = ".safetensors") -> None:
    """Raise ProbeError when a model cannot be written to a file; better known before the work than after."""
    if path.suffix != suffix:
        raise ProbeError(f"a model is a {suffix} file, which '{path}' is not called")
    if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
        raise ProbeError(f"cannot write '{path}': there is a folder, or a file that must not be written")
    check_folder(path.parent, "a model")


def _rebuild(card: Mapping[str, Any]) -> Truncated:
    """The network that a card describes, with weights that mean nothing."""
    sizes, source = card["preprocessing"], card["source"]
    preprocessing = Preprocessing(**{**sizes, "mean": tuple(sizes["mean"]), "std": tuple(sizes["std"])})
    origin = Origin(
        arch=card["arch"], weights=source["weights"], seed=source["seed"], level=card["level"],
        preprocessing=preprocessing, modules=tuple(card["modules"]),
    )  # fmt: skip
    net = origin.from_scratch().build()
    trunk = halve_top(net.cut(card["tap"]), card.get("halved", 0))
    trunk.origin = origin
    settings, task = Head(**card["head"]), read_task(card["task"], card["classes"])
    head = make_head(trunk.tap(-1), task.outputs, settings)
    return Truncated(trunk, head, task, settings, source["hash"])
