"""State dicts from files: read without running anything in them, matched to a network name by name."""

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from probe.base.errors import ProbeError
from probe.base.lookup import FILES
from probe.base.runtime import log

CARD = "pretraining"  # in the metadata of a file that `probe pretrain` wrote
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # classifiers that only GoogLeNet's and Inception's own training uses
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "teacher", "student", "params")


def trained_size(path: Path) -> int | None:
    """Side in pixels of the images that a file of `probe pretrain` was trained with; None of any other file."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            card = json.loads((file.metadata() or {}).get(CARD, "{}"))
    except (SafetensorError, OSError, ValueError):  # told when its tensors are read
        return None
    size: int | None = card.get("preprocessing", {}).get("image_size")
    return size


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name; wrappers such as `state_dict` are opened.

    Raises ProbeError for a file that is missing, damaged, or would have to run code to load.
    """
    if not path.is_file():
        raise ProbeError(f"no weights at '{path}': give a {', '.join(FILES)} file, 'pretrained' or 'scratch'")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes its readers raise
        if isinstance(error, pickle.UnpicklingError) and _asks_for_code(str(error)):
            raise ProbeError(
                f"'{path}' holds more than tensors and would run code when loaded; save its state dict as .safetensors"
            ) from None
        # What torch says of a damaged file advises to load it unsafely.
        reason = "" if path.suffix != ".safetensors" else f": {(str(error).splitlines() or [''])[0]}"
        raise ProbeError(f"'{path}' is not a readable checkpoint{reason}") from None
    return _tensors(content, path)


def _asks_for_code(message: str) -> bool:
    """Whether torch refused a pickle for what it calls, rather than for being damaged."""
    return any(word in message for word in ("GLOBAL", "Unsupported global", "REDUCE", "BUILD", "NEWOBJ"))


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, dict):
        found = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
        if inner is None or len(found) > len(inner):
            if found:
                return found
            break
        content = inner
    raise ProbeError(f"'{path}' holds no state dict (a table from names to tensors)")


def load_state(network: nn.Module, state: dict[str, Tensor], path: Path, classifier: Sequence[str]) -> None:
    """Load a state dict whose names may carry a prefix (`module.`, `backbone.`).

    `classifier` names the modules of the classifier. One of another size, or none, is left as it was
    and said so; any other difference is a ProbeError that shows both sides.
    """
    expected = network.state_dict()
    given = _without_prefix(state, expected, path)
    given = {name: x.squeeze(0) if x.shape == (1,) and _is_scalar(expected, name) else x for name, x in given.items()}
    given = {name: x for name, x in given.items() if name in expected or not name.startswith(AUXILIARY)}
    heads = {name: _is_part(name, classifier) for name in (*expected, *given)}
    whole = all(name in expected and _fits(given, name, expected[name]) for name in heads if heads[name])
    if not whole:
        there = any(heads[name] for name in given)
        what = f"its classifier does not fit {_few(list(classifier))} and was dropped" if there else "has no classifier"
        log.warning("%s: %s; features do not use it", path, what)
        given = {name: tensor for name, tensor in given.items() if not heads[name]}
    kept = {name: tensor for name, tensor in expected.items() if whole or not heads[name]}
    check_fit(given, kept, path)
    network.load_state_dict(given, strict=False)


def _is_scalar(expected: dict[str, Tensor], name: str) -> bool:
    """Whether the network keeps a lone number, such as a batch counter, where a file may hold a list of one."""
    return name in expected and expected[name].shape == ()


def _is_part(name: str, modules: Sequence[str]) -> bool:
    return any(name.startswith(module + ".") for module in modules)


def _fits(given: dict[str, Tensor], name: str, tensor: Tensor) -> bool:
    return name in given and given[name].shape == tensor.shape


def _without_prefix(state: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The names below the prefix under which most of the expected ones are found."""
    prefixes = {""} | {name[: k + 1] for name in state for k, letter in enumerate(name) if letter == "."}
    found = {prefix: sum(prefix + name in state for name in expected) for prefix in prefixes}
    best = max(sorted(prefixes, key=lambda prefix: (len(prefix), prefix)), key=found.__getitem__)
    outside = [name for name in state if not name.startswith(best)]
    if outside and found[best]:
        log.warning("%s: only what lies under '%s' was read; left out: %s", path, best, _few(outside))
    return {name.removeprefix(best): tensor for name, tensor in state.items() if name.startswith(best)}


def check_fit(given: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Raise ProbeError, showing both sides, when a file's tensors are not those of a network in name and shape."""
    optional = "num_batches_tracked"
    missing = [name for name in expected if name not in given and not name.endswith(optional)]
    extra = [name for name in given if name not in expected]
    shapes = [
        f"{name} is {tuple(given[name].shape)} in the file and {tuple(expected[name].shape)} in the network"
        for name in expected
        if name in given and given[name].shape != expected[name].shape
    ]
    parts = [
        f"only the network has {_few(missing)}" if missing else "",
        f"only the file has {_few(extra)}" if extra else "",
        _few(shapes) if shapes else "",
    ]
    if any(parts):
        raise ProbeError(f"'{path}' does not fit the network: " + "; ".join(filter(None, parts)))


def _few(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
