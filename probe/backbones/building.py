"""Backbones: networks as ordered runs of named stages, found by tracing and cut without code per architecture."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from probe.backbones import cut_points, tracing
from probe.backbones.catalog import Source, find_source, list_archs, seeded
from probe.backbones.network import Backbone, Origin, Preprocessing
from probe.backbones.network_spec import NetworkSpec
from probe.backbones.published_weights import require
from probe.backbones.stages import slice_network
from probe.backbones.state_dicts import load_state, read_state, trained_size
from probe.backbones.trace_memo import build_of, flows_of, native_flow
from probe.base.errors import ProbeError, Unreachable
from probe.base.lookup import is_file, unknown
from probe.base.runtime import log

__all__ = ["Backbone", "Origin", "Preprocessing", "backbone", "from_list", "from_module", "list_archs"]


def backbone(
    arch: str,
    weights: str | Path = "pretrained",
    *,
    seed: int = 0,
    level: str = "block",
    image_size: int | None = None,
    crop: str = "squash",
    modules: Sequence[str] = (),
) -> Backbone:
    """A network of timm, torchvision (`torchvision:NAME`), the hub (`hf-hub:ORG/NAME`) or `cbr:NAME`, as stages.

    `weights`: "pretrained", the name of a published weight, "scratch" (drawn from `seed`), or a
    state dict's path. `level`: "block", "layer" or "stage". `image_size` in pixels; by default
    what the weights were trained with. `modules`, for a network that cannot be traced, lists those
    that run one after the other, bottom to top and the head last. The network is in eval mode. The
    global random state is left alone.

    Raises ProbeError for unknown names, weights that do not fit or cannot be had, and networks
    that cannot be traced or have no cut.
    """
    spec = NetworkSpec(
        arch=arch, weights=str(weights), seed=seed, level=level, image_size=image_size, crop=crop,
        modules=tuple(modules),
    )  # fmt: skip
    return build(spec)


def build(spec: NetworkSpec) -> Backbone:
    """The network of a spec; see `backbone`."""
    source = find_source(spec.arch)
    tag = published_tag(source, spec.weights)
    if tag is not None:
        require(source.published(tag), spec.arch)
    with seeded(spec.seed):
        file = Path(spec.weights) if is_file(spec.weights) else None
        network = _create(source, tag, spec.image_size) if file is None else _from_file(source, file, spec.image_size)
        native = source.preprocessing(network, tag)
        size = spec.image_size or native.image_size
        if file and (trained := trained_size(file)) not in (None, size):
            log.warning("%s was trained on images of %s px and is read at %d px", file, trained, size)
        origin = Origin(
            arch=spec.arch, weights=spec.weights, seed=spec.seed, level=spec.level, modules=spec.modules,
            preprocessing=replace(native, image_size=size, crop=spec.crop),
        )  # fmt: skip
        if spec.modules:
            return from_list(network, origin, spec.modules)
        like = build_of(network, source.name, tag or None, spec.image_size)
        return _sliced(network, origin, native.image_size, like)


def _create(source: Source, tag: str | None, image_size: int | None) -> nn.Module:
    try:
        return source.create(tag, image_size)
    except ProbeError:
        raise
    except Exception as error:  # whatever a foreign constructor raises
        size = "" if image_size is None else f" for images of {image_size} px"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        clients = ("huggingface_hub", "httpx", "requests", "urllib")
        if tag is not None and (isinstance(error, OSError) or type(error).__module__.startswith(clients)):
            raise Unreachable(f"the weights of {source.name} could not be fetched: {reason}") from error
        raise ProbeError(f"{source.name} cannot be built{size}: {reason}") from error


def _from_file(source: Source, file: Path, image_size: int | None) -> nn.Module:
    """The network with a file's weights; made for another image size, its position embeddings are resampled."""
    state = read_state(file)
    network = _create(source, None, image_size)
    try:
        load_state(network, state, file, source.classifier(network))
    except ProbeError:
        trained = trained_size(file)
        native = _create(source, None, trained)
        resize = getattr(native, "set_input_size", None)
        if image_size is None and trained:
            raise ProbeError(
                f"'{file}' was trained on images of {trained} px; give that image size, or another"
            ) from None
        if image_size is None or resize is None:
            raise
        load_state(native, state, file, source.classifier(native))
        resize(img_size=(image_size, image_size))
        return native
    return network


def from_module(network: nn.Module, origin: Origin, native_size: int | None = None) -> Backbone:
    """Slice a network of one's own; `origin` says what it is and which images it takes.

    Cuts are looked for at `native_size` pixels, so that they do not depend on the image size. The stages
    share the network's modules, and put them in eval mode.
    """
    return _sliced(network, origin, native_size)


def _sliced(network: nn.Module, origin: Origin, native_size: int | None, build: Hashable = None) -> Backbone:
    """The network as stages; one whose `build` was traced before is not traced again."""
    channels, size = len(origin.preprocessing.mean), origin.preprocessing.image_size
    flows = flows_of(network, origin.arch, (channels, size, size), build)
    native = flows[False]
    if native_size is not None and native_size != size:
        native = native_flow(network, origin.arch, (channels, native_size, native_size), build) or native
    places = [{flow.names[flow.pixels[i]] for i in cut_points.candidates(flow)} for flow in (flows[True], flows[False])]
    found = [
        cut for cut in cut_points.find(network, native, origin.level) if all(cut.node in place for place in places)
    ]
    if not found:
        raise ProbeError(f"{origin.arch} has no place where all information passes through one tensor")
    return Backbone(*slice_network(network, found, flows), origin)


def from_list(network: nn.Module, origin: Origin, modules: Sequence[str]) -> Backbone:
    """Slice a network that cannot be traced by an ordered list of its modules, the last being the head.

    Raises ProbeError when a module is unknown, or when run one after the other they do not give the
    network's output.
    """
    known = dict(network.named_modules())
    for name in modules:
        if name not in known:
            raise unknown("module", name, list(known))
    shape = (len(origin.preprocessing.mean), origin.preprocessing.image_size, origin.preprocessing.image_size)
    try:
        flow = tracing.chain(network, list(modules), shape)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ProbeError(f"{', '.join(modules)} cannot be run one after the other: {reason}") from error
    torn = next((flow.names[node] for node in flow.pixels[1:-1] if node in flow.overwritten), None)
    if torn is not None:
        raise ProbeError(f"the output of '{torn}' is overwritten by what follows it; leave it out of the list")
    unread = next((flow.names[node] for node in flow.pixels[1:-1] if node not in flow.layouts), None)
    if unread is not None:
        raise ProbeError(f"cannot tell which axis of the output of '{unread}' holds the channels; leave it out")
    found = [cut_points.Cut(flow.names[node], flow.names[node], flow.layouts[node]) for node in flow.pixels[1:-1]]
    net = Backbone(*slice_network(network, found, {True: flow, False: flow}), origin)
    with tracing.mode(network, training=False), torch.no_grad():
        images = torch.linspace(-1, 1, 2 * math.prod(shape)).reshape(2, *shape)
        if not torch.equal(net(images), network(images)):
            raise ProbeError(f"run one after the other, {', '.join(modules)} do not give the output of {origin.arch}")
    return net


def published_tag(source: Source, weights: str) -> str | None:
    """The published weight that `weights` asks for: "" for the default one, None for a file or scratch."""
    if weights == "scratch" or is_file(weights):
        return None
    if weights == "pretrained":
        return ""
    if weights not in source.tags():
        raise unknown(f"weights of {source.name}:", weights, ["pretrained", "scratch", *source.tags()])
    return weights
