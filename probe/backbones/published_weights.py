"""Published weights: where their files lie, and the one short attempt to reach them."""

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import torch
from huggingface_hub import hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from probe.backbones.network_spec import HUB
from probe.base.errors import ProbeError, Unreachable

PATIENCE = 5.0  # seconds given to the one attempt to reach published weights


@dataclass(frozen=True)
class Published:
    """A published weight file: the addresses it may have, and its place on this machine once downloaded."""

    urls: tuple[str, ...]
    file: Path | None


def on_hub(repo: str, *names: str) -> Published:
    """The first of the files `names` of a repository that is here; else all their addresses."""
    for name in names:
        try:
            found = try_to_load_from_cache(repo, name)
        except HFValidationError as error:
            raise ProbeError(f"'{HUB}{repo}' cannot be a name on the hub: {str(error).splitlines()[0]}") from None
        if isinstance(found, str):
            return Published((hf_hub_url(repo, name),), Path(found))
    return Published(tuple(hf_hub_url(repo, name) for name in names), None)


def in_torch_hub(url: str) -> Published:
    """A file where torch.hub keeps those it has fetched."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    return Published((url,), file if file.is_file() else None)


def require(published: Published, arch: str) -> None:
    """Make sure that a published file is here or can be fetched, with one short attempt.

    Raises Unreachable otherwise. Left alone, the hub's client would try again for most of a minute.
    """
    if published.file is not None:
        return
    answers = [_ask(url, arch) for url in published.urls]
    if all(code in (401, 403, 404, 410) for code in answers):  # other answers may be to the question, not to the file
        raise Unreachable(f"the weights of {arch} are not given out at {published.urls[0]} ({answers[0]})")


def _ask(url: str, arch: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(f"the weights of {arch} are not on this machine and cannot be fetched: {reason}") from None
