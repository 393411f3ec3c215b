"""Tracing once per architecture: a `Flow` holds no weights, so networks that are built alike share it."""

from collections.abc import Hashable
from contextlib import suppress

from torch import nn

from probe.backbones.state_dicts import hash_tensors
from probe.backbones.tracing import Flow, trace
from probe.base.errors import ProbeError, reason
from probe.base.memo import Memo

PLAIN = (bool, int, float, str, type(None))
RUNNING = ("running_mean", "running_var", "num_batches_tracked")  # of normalisation: learnt, as weights are

_flows: Memo[dict[bool, Flow]] = Memo(16)
_native: Memo[Flow | None] = Memo(16)


def build_of(network: nn.Module, *named: Hashable) -> Hashable:
    """How a network was built, weights aside: what its source was asked for, and what came of it.

    That are the kinds and the plain settings of its modules, the shapes of its tensors, and the content of its
    tables. Only for networks of a named source: what else a module of one's own does cannot be seen.
    """
    modules = [(path, type(module), _settings(module)) for path, module in network.named_modules()]
    tensors = [(name, tensor.shape, tensor.dtype) for name, tensor in network.named_parameters()]
    tables = {name: table for name, table in network.named_buffers() if not _is_running(name)}
    return (*named, tuple(modules), tuple(tensors), hash_tensors(tables))


def _is_running(buffer: str) -> bool:
    return buffer.rpartition(".")[2] in RUNNING


def _settings(module: nn.Module) -> tuple[tuple[str, object], ...]:
    known = {name: value for name, value in vars(module).items() if name != "training" and _is_plain(value)}
    return tuple(sorted(known.items()))


def _is_plain(value: object) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, PLAIN)


def flows_of(network: nn.Module, arch: str, shape: tuple[int, ...], build: Hashable = None) -> dict[bool, Flow]:
    """What flows through a network in train mode (True) and in eval mode, for images of a shape (channels first).

    Traced once for a `build`. Raises ProbeError when the network cannot be traced.
    """

    def traced() -> dict[bool, Flow]:
        return {training: _trace(network, arch, shape, training) for training in (True, False)}

    flows = _flows(build and (build, shape), traced)
    constants = {name: constant for flow in flows.values() for name, constant in flow.constants.items()}
    if build and constants and any(map(_is_running, dict(network.named_buffers()))):
        return traced()  # they may have been computed from the statistics of the network that was traced
    for name, constant in constants.items():
        setattr(network, name, constant.clone())
    return flows


def native_flow(network: nn.Module, arch: str, shape: tuple[int, ...], build: Hashable = None) -> Flow | None:
    """What flows through it in eval mode at its own image size; None of a network that takes one other size alone."""

    def traced() -> Flow | None:
        with suppress(ProbeError):
            return _trace(network, arch, shape, training=False)
        return None

    return _native(build and (build, shape), traced)


def _trace(network: nn.Module, arch: str, shape: tuple[int, ...], training: bool) -> Flow:
    try:
        return trace(network, shape, training)
    except ProbeError:
        raise
    except Exception as error:  # whatever a foreign network raises under the tracer
        raise ProbeError(f"{arch} cannot be traced for images of {shape[-1]} px: {reason(error)}") from error
