"""Where networks come from: timm, torchvision, the Hugging Face hub and `cbr.py`, behind one small interface."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from typing import Any, Protocol

import timm
import torch
import torchvision
from timm.data.config import resolve_model_data_config
from timm.models import get_pretrained_cfg
from torch import nn

from probe.backbones.cbr import CBR, IMAGE_SIZE, VARIANTS
from probe.backbones.network import Preprocessing
from probe.backbones.network_spec import HUB
from probe.backbones.published_weights import Published, in_torch_hub, on_hub, require
from probe.backbones.state_dicts import AUXILIARY
from probe.base.errors import Unreachable
from probe.base.lookup import unknown

TORCHVISION, SMALL = "torchvision:", "cbr:"


class Source(Protocol):
    """An architecture somebody published: what it is called, its weights, and how to build it."""

    name: str

    def tags(self) -> list[str]: ...
    def published(self, tag: str) -> Published: ...
    def create(self, tag: str | None, image_size: int | None) -> nn.Module: ...
    def preprocessing(self, network: nn.Module, tag: str | None) -> Preprocessing: ...
    def classifier(self, network: nn.Module) -> Sequence[str]: ...


def find_source(arch: str) -> Source:
    """The source of an architecture: a timm id, `torchvision:NAME`, `hf-hub:ORG/NAME` or `cbr:NAME`.

    Raises ProbeError for an unknown name, with the near ones.
    """
    if arch.startswith(TORCHVISION):
        return _Torchvision(arch.removeprefix(TORCHVISION))
    if arch.startswith(SMALL):
        return _Small(arch.removeprefix(SMALL))
    return _Hub(arch) if arch.startswith(HUB) else _Timm(arch)


def list_archs(pattern: str = "*") -> list[str]:
    """Names of all known architectures that match a shell pattern, or contain it."""
    names = timm.list_models() + [TORCHVISION + name for name in _torchvision_names()]
    names += [SMALL + name for name in VARIANTS]
    wanted = pattern if any(letter in pattern for letter in "*?[") else f"*{pattern}*"
    return [name for name in names if fnmatch(name, wanted)]


class _Timm:
    def __init__(self, name: str) -> None:
        if not timm.is_model(name.partition(".")[0]):
            raise unknown("arch", name, timm.list_models() + list_archs(TORCHVISION + "*"), "'probe archs'")
        self.name = name
        tag = name.partition(".")[2]
        if tag and tag not in self.tags():
            raise unknown("arch", name, [f"{name.partition('.')[0]}.{known}" for known in self.tags()])

    def tags(self) -> list[str]:
        base = self.name.partition(".")[0]
        names = timm.list_models(base + ".*", pretrained=True)
        return [name.partition(".")[2] for name in names if "." in name]

    def published(self, tag: str) -> Published:
        cfg = get_pretrained_cfg(self._full(tag))
        if cfg is None or not (cfg.hf_hub_id or (cfg.url and isinstance(cfg.url, str))):
            raise Unreachable(f"no weights are published for {self.name}; use 'scratch' or a file")
        if cfg.hf_hub_id:
            return on_hub(cfg.hf_hub_id, cfg.hf_hub_filename or "model.safetensors", "pytorch_model.bin")
        return in_torch_hub(str(cfg.url))

    def create(self, tag: str | None, image_size: int | None) -> nn.Module:
        sized: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
        try:
            return timm.create_model(self._full(tag), pretrained=tag is not None, **sized)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
        return timm.create_model(self._full(tag), pretrained=tag is not None)  # takes images of any size

    def preprocessing(self, network: nn.Module, tag: str | None) -> Preprocessing:
        config = resolve_model_data_config(network)
        return Preprocessing(
            image_size=config["input_size"][-1],
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            interpolation=config["interpolation"],
        )

    def classifier(self, network: nn.Module) -> Sequence[str]:
        name = getattr(network, "pretrained_cfg", {}).get("classifier")
        return [name] if isinstance(name, str) else name or _last_module(network)

    def _full(self, tag: str | None) -> str:
        return self.name if tag in (None, "") else f"{self.name.partition('.')[0]}.{tag}"


class _Hub(_Timm):
    def __init__(self, name: str) -> None:
        self.name = name

    def tags(self) -> list[str]:
        return []

    def published(self, tag: str) -> Published:
        return on_hub(self.name.removeprefix(HUB), "model.safetensors", "pytorch_model.bin")

    def create(self, tag: str | None, image_size: int | None) -> nn.Module:
        require(on_hub(self.name.removeprefix(HUB), "config.json"), self.name)
        return super().create(tag, image_size)

    def _full(self, tag: str | None) -> str:
        return self.name


class _Torchvision:
    def __init__(self, name: str) -> None:
        if name not in _torchvision_names():
            raise unknown("arch", TORCHVISION + name, list_archs(TORCHVISION + "*"), "'probe archs'")
        self.name = TORCHVISION + name
        self._name = name

    def tags(self) -> list[str]:
        return [weight.name for weight in torchvision.models.get_model_weights(self._name)]

    def published(self, tag: str) -> Published:
        return in_torch_hub(self._weight(tag).url)

    def create(self, tag: str | None, image_size: int | None) -> nn.Module:
        weight = None if tag is None else self._weight(tag)
        options: dict[str, Any] = {}
        if image_size is not None and self._name.startswith("vit_"):
            options["image_size"] = image_size
        if weight is None and self._name in ("googlenet", "inception_v3"):
            options["init_weights"] = True  # what it does anyway, after a warning of the time it takes
        return _without_auxiliary(torchvision.models.get_model(self._name, weights=weight, **options))

    def preprocessing(self, network: nn.Module, tag: str | None) -> Preprocessing:
        transforms = self._weight(tag or "").transforms()
        return Preprocessing(
            image_size=transforms.crop_size[0],
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
            interpolation=transforms.interpolation.value,
        )

    def classifier(self, network: nn.Module) -> Sequence[str]:
        return _last_module(network)

    def _weight(self, tag: str) -> Any:
        weights = torchvision.models.get_model_weights(self._name)
        return weights[tag] if tag else weights.DEFAULT


class _Small:
    def __init__(self, name: str) -> None:
        if name not in VARIANTS:
            raise unknown("arch", SMALL + name, list_archs(SMALL + "*"), "'probe archs'")
        self.name = SMALL + name
        self._variant = VARIANTS[name]

    def tags(self) -> list[str]:
        return []

    def published(self, tag: str) -> Published:
        raise Unreachable(f"no weights are published for {self.name}; use 'scratch' or a file of 'probe pretrain'")

    def create(self, tag: str | None, image_size: int | None) -> nn.Module:
        return CBR(self._variant)  # takes images of any size

    def preprocessing(self, network: nn.Module, tag: str | None) -> Preprocessing:
        return Preprocessing(image_size=IMAGE_SIZE, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear")

    def classifier(self, network: nn.Module) -> Sequence[str]:
        return ["fc"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` inside, and leave the random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the GPUs' generators are left alone
        yield


def _torchvision_names() -> list[str]:
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def _without_auxiliary(network: nn.Module) -> nn.Module:
    """GoogLeNet and Inception without the classifiers that only their own training uses."""
    if getattr(network, "aux_logits", False):
        network.aux_logits = False  # type: ignore[assignment]
        for prefix in AUXILIARY:
            if hasattr(network, prefix.rstrip(".")):
                setattr(network, prefix.rstrip("."), None)
    return network


def _last_module(network: nn.Module) -> Sequence[str]:
    return [[name for name, _ in network.named_parameters()][-1].rpartition(".")[0]]
