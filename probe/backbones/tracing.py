"""Trace a network into a graph and learn, node by node, what flows through it.

One symbolic trace gives the order of the operations; two runs of it on fake tensors (shapes
without arithmetic), at two batch sizes, give the rest: which values carry pixels, which are
constants of the image size, which grow with the batch, and what is overwritten in place.
"""

import copy
import inspect
import logging
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from timm.models import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.feature_extraction import NodePathTracer

from probe.backbones.channel_axes import ChannelAxes
from probe.backbones.taps import Layout, find_layout

BATCHES = (2, 3)  # two sizes tell a constant from a multiple of the batch


class Shape(tuple[int, ...]):
    """The shape of a tensor, told apart from a tuple of sizes that the network itself computed."""


@dataclass(frozen=True)
class Flow:
    """A traced network and what is known of each node.

    `names` are the tracer's qualified names; `values` what a node gave at the two batch sizes
    (tensors as `Shape`); `pixels` the nodes, in order, whose value carries pixels; `overwritten`
    those that a later node writes into; `macs` the multiply-accumulates of one image; `layouts`
    the tensors' own, where it can be told; `constants` the tensors that the tracer put on the
    network, by name. It holds no weights.
    """

    graph: fx.Graph
    names: dict[fx.Node, str]
    values: dict[fx.Node, tuple[Any, Any]]
    pixels: list[fx.Node]
    overwritten: set[fx.Node]
    macs: dict[fx.Node, int]
    layouts: dict[fx.Node, Layout]
    constants: dict[str, Tensor]

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """Shape of one image's tensor at a node."""
        return tuple(self.values[node][0][1:])

    def positions(self, node: fx.Node) -> int:
        """Number of places (pixels of a map, tokens) over which a tensor would be pooled."""
        return self.layouts[node].positions(self.shape(node))

    def module(self, node: fx.Node) -> str:
        """Path of the module a node runs in: the leaf module itself, or the caller of a function."""
        return str(node.target) if node.op == "call_module" else self.names[node].rpartition(".")[0]


@contextmanager
def mode(network: nn.Module, training: bool) -> Iterator[None]:
    """Put every module in train or eval mode, and each back as it was."""
    before = [(module, module.training) for module in network.modules()]
    network.train(training)
    try:
        yield
    finally:
        for module, was in before:
            module.training = was


def trace(network: nn.Module, image_shape: tuple[int, ...], training: bool) -> Flow:
    """Trace `network` in train or eval mode for images of `image_shape` (channels first).

    Optional inputs are fixed at their defaults. Neither weights, buffers nor the random state
    change. What the tracer cannot follow raises whatever it raises.
    """
    optional = list(inspect.signature(network.forward).parameters.values())[1:]
    defaults = {p.name: p.default for p in optional if p.default is not inspect.Parameter.empty}
    tracer = _Tracer(leaf_modules=get_notrace_modules(), autowrap_functions=get_notrace_functions())
    with mode(network, training), torch.random.fork_rng(devices=[]):
        graph = tracer.trace(network, concrete_args=defaults)
        return observe(network, graph, dict(tracer.node_to_qualname), image_shape, tuple(defaults.values()))


def chain(network: nn.Module, modules: list[str], image_shape: tuple[int, ...]) -> Flow:
    """What flows through modules that are run one after the other, without tracing them."""
    graph = fx.Graph()
    node = graph.placeholder("x")
    names = {node: "x"}
    for name in modules:
        node = graph.call_module(name, (node,))
        names[node] = name
    graph.output(node)
    with mode(network, training=False):
        return observe(network, graph, names, image_shape)


def observe(
    network: nn.Module,
    graph: fx.Graph,
    names: dict[fx.Node, str],
    image_shape: tuple[int, ...],
    defaults: tuple[Any, ...] = (),
) -> Flow:
    """Run `graph` on fake images at both batch sizes and note what each node gives."""
    fake = FakeTensorMode()
    with FakeCopyMode(fake):
        shadow = copy.deepcopy(network)  # no numbers, so nothing of the network can change
    first, second = _FakeRun(shadow, graph), _FakeRun(shadow, graph)
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)  # the error itself is enough
    with torch.no_grad(), fake:
        second.run(torch.empty(BATCHES[1], *image_shape), *defaults)
        with first.counter, first.channels:
            first.run(torch.empty(BATCHES[0], *image_shape), *defaults)
    first.channels.settle()
    values = {node: (first.seen[node], second.seen[node]) for node in first.seen}
    return Flow(
        graph=graph,
        names=names,
        values=values,
        pixels=_pixels(graph, values),
        overwritten={node for node, (tensor, version) in first.tensors.items() if tensor._version != version},
        constants=_constants(network, graph),
        macs={node: flops // (2 * BATCHES[0]) for node, flops in first.flops.items()},
        layouts={
            node: layout
            for node, (tensor, _) in first.tensors.items()
            if (layout := find_layout(tensor.ndim, first.channels.axis(tensor)))
        },
    )


def _constants(network: nn.Module, graph: fx.Graph) -> dict[str, Tensor]:
    """Tensors that are no parameter and no buffer, which the tracer put on the network under names of its own."""
    names = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    return {name: getattr(network, name).clone() for name in sorted(names) if name.startswith("_tensor_constant")}


def _pixels(graph: fx.Graph, values: dict[fx.Node, tuple[Any, Any]]) -> list[fx.Node]:
    """Nodes that hold tensors computed from the images; sizes, types and devices read off them do not count."""
    found: dict[fx.Node, None] = {}
    for node in graph.nodes:
        reads = not found if node.op == "placeholder" else any(arg in found for arg in node.all_input_nodes)
        if reads and node.op != "output" and holds_tensor(values[node][0]):
            found[node] = None
    return list(found)


def holds_tensor(value: Any) -> bool:
    """Whether what a node gave is a tensor or holds one."""
    return isinstance(value, Shape) or (isinstance(value, list | tuple) and any(map(holds_tensor, value)))


def _describe(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Shape(value.shape)
    return tuple(map(_describe, value)) if isinstance(value, list | tuple) else value


class _InPlace(fx.Proxy):
    """A value that `+=` overwrites, as it does in the network; of a plain proxy Python would make a sum beside it."""


def _overwrites(name: str) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    """`name` is that of the operator without the i in front, which the node is called by."""

    def operate(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", getattr(operator, f"i{name}"), (self, other), {}, name)

    return operate


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift"):
    setattr(_InPlace, f"__i{_name}__", _overwrites(_name))


class _Tracer(NodePathTracer):  # type: ignore[misc]
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _InPlace(node, self)


class _FakeRun(fx.Interpreter):
    """Runs a graph on fake tensors and keeps what each node gave."""

    def __init__(self, network: nn.Module, graph: fx.Graph) -> None:
        super().__init__(network, graph=graph, garbage_collect_values=False)
        self.seen: dict[fx.Node, Any] = {}
        self.tensors: dict[fx.Node, tuple[Tensor, int]] = {}
        self.flops: dict[fx.Node, int] = {}
        self.channels = ChannelAxes()
        self.counter = FlopCounterMode(display=False)

    def run_node(self, n: fx.Node) -> Any:
        before = self.counter.get_total_flops()
        result = super().run_node(n)
        self.flops[n] = self.counter.get_total_flops() - before
        self.seen[n] = _describe(result)
        if isinstance(result, Tensor):
            # A tensor's version counts the writes into its storage, through any view of it.
            self.tensors[n] = (result, result._version)
        return result
