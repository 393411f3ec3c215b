"""Slice a traced network into stages: modules that run one after the other and give its output, bit for bit.

Each stage is generated from two graphs over the same modules: the train graph still has the
dropout and stochastic depth that are constants in the eval graph.
"""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from probe.backbones.cut_points import Cut
from probe.backbones.taps import VECTOR
from probe.backbones.tracing import BATCHES, Flow, holds_tensor
from probe.base.errors import ProbeError

HEAD = "head"


class Stage(nn.Module):
    """A slice of a network between two cuts; its own parameters and no others, under their original names.

    `shape` is the output of one image and `layout` says what its axes hold. `macs` counts the
    multiply-accumulates of one image. `halved` says that it has not the architecture's own width.
    """

    def __init__(self, network: nn.Module, cut: Cut, graphs: dict[bool, fx.Graph], flow: Flow, ends: tuple[int, int]):
        super().__init__()
        self.name, self.layout = cut.name, cut.layout
        self.halved = False
        first, last = (flow.pixels[end] for end in ends)
        self.input_shape, self.shape = flow.shape(first), flow.shape(last)
        self.macs = sum(flow.macs[node] for node in flow.pixels[ends[0] + 1 : ends[1] + 1])
        targets = {str(n.target) for g in graphs.values() for n in g.nodes if n.op in ("call_module", "get_attr")}
        for target in sorted(targets, key=lambda name: (len(name), name)):  # alike in every process
            _attach(self, network, target)
        self._forwards = {training: type(fx.GraphModule(network, g)).forward for training, g in graphs.items()}
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self._forwards[self.training](self, x)
        return result

    def extra_repr(self) -> str:
        return f"{self.name}: {self.layout} {self.shape}"


def slice_network(network: nn.Module, cuts: list[Cut], flows: dict[bool, Flow]) -> tuple[list[Stage], Stage]:
    """The stages that end at `cuts`, bottom to top, and the head that turns the last into the output.

    They share the network's modules, which are put in eval mode.
    """
    network.eval()
    bounds = {training: _bounds(flow, cuts) for training, flow in flows.items()}
    pieces = [*cuts, Cut(HEAD, "", VECTOR)]
    made = []
    for k, cut in enumerate(pieces):
        graphs = {training: _segment(flow, *bounds[training][k : k + 2]) for training, flow in flows.items()}
        start, end = bounds[False][k : k + 2]
        made.append(Stage(network, cut, graphs, flows[False], (start, end)))
    return made[:-1], made[-1]


def _bounds(flow: Flow, cuts: list[Cut]) -> list[int]:
    places = {flow.names[node]: i for i, node in enumerate(flow.pixels)}
    return [0, *(places[cut.node] for cut in cuts), len(flow.pixels) - 1]


def _attach(stage: nn.Module, network: nn.Module, target: str) -> None:
    """Hang the module, parameter or buffer `target` of a network on a stage, under the same path."""
    *parents, name = target.split(".")
    source, place = network, stage
    for parent in parents:
        source = getattr(source, parent)
        if not hasattr(place, parent):
            place.add_module(parent, nn.Module())
        place = getattr(place, parent)
    value = getattr(source, name)
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        if name not in place._buffers:
            place.register_buffer(name, value, persistent=name not in source._non_persistent_buffers_set)
    elif getattr(place, name, None) is not value:
        setattr(place, name, value)


def _segment(flow: Flow, start: int, end: int) -> fx.Graph:
    """The graph from the value at position `start` to the one at `end`.

    Values that carry no pixels are made anew where they are used: sizes as constants of the image
    size or multiples of the batch, tensors (expanded tokens, tables) by the same operations.
    """
    graph = fx.Graph()
    source = graph.placeholder("x")
    fill = _Fill(graph, source, flow)
    fill.made[flow.pixels[start]] = source
    inside = flow.pixels[start + 1 : end + 1]
    needed = _needed(flow, inside)
    for node in flow.graph.nodes:
        if node in needed:
            fill.made[node] = graph.node_copy(node, fill)
    output = next(node for node in flow.graph.nodes if node.op == "output")
    is_head = end == len(flow.pixels) - 1
    graph.output(fx.node.map_arg(output.args[0], fill) if is_head else fill(flow.pixels[end]))
    for node in fill.read:
        if not node.users:
            graph.erase_node(node)
    return graph


def _needed(flow: Flow, inside: list[fx.Node]) -> set[fx.Node]:
    """The nodes of a segment and all the tensors without pixels that they are computed from."""
    pixels, needed = set(flow.pixels), set(inside)
    queue = list(inside)
    while queue:
        node = queue.pop()
        related = [*node.all_input_nodes]
        if node not in pixels and node in flow.overwritten:
            related += [user for user in node.users if user not in pixels]
        for other in related:
            if other not in pixels and other not in needed and _made_by_operations(flow, other):
                needed.add(other)
                queue.append(other)
    return needed


def _made_by_operations(flow: Flow, node: fx.Node) -> bool:
    return node in flow.values and holds_tensor(flow.values[node][0])


class _Fill:
    """Gives, for a node of the whole graph, what stands for it in a segment."""

    def __init__(self, graph: fx.Graph, source: fx.Node, flow: Flow) -> None:
        self.graph, self.flow = graph, flow
        self.made: dict[fx.Node, Any] = {}
        self.batch = graph.call_method("size", (source, 0))
        self.device = graph.call_function(getattr, (source, "device"))
        self.dtype = graph.call_function(getattr, (source, "dtype"))
        self.read = (self.batch, self.device, self.dtype)

    def __call__(self, node: fx.Node) -> Any:
        if node not in self.made:
            self.made[node] = self._plain(*self.flow.values[node])
        return self.made[node]

    def _plain(self, small: Any, large: Any) -> Any:
        if isinstance(small, torch.device):
            return self.device
        if small is torch.get_default_dtype():
            return self.dtype
        if isinstance(small, tuple):
            return tuple(map(self._plain, small, large))
        if small == large:
            return small
        times = small // BATCHES[0]
        if isinstance(small, int) and (small, large) == (times * BATCHES[0], times * BATCHES[1]):
            return self.batch if times == 1 else self.graph.call_function(operator.mul, (self.batch, times))
        raise ProbeError(f"a value of the network is {small} for {BATCHES[0]} images and {large} for {BATCHES[1]}")
