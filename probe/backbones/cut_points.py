"""Where a network can be cut, found from its graph, and what the places are called.

A node is a candidate when, right after it has run, it is the only live value that carries pixels.
Levels choose among the candidates: `layer` (after every operation with a weight matrix, its norm
and activation included), `block` (the repeated unit) and `stage` (runs of blocks of one resolution).
"""

import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import fx, nn

from probe.backbones.taps import Layout
from probe.backbones.tracing import BATCHES, Flow, Shape
from probe.settings.networks import STEM


@dataclass(frozen=True)
class Cut:
    """A place to cut: the tap's name, the tracer's name of the node read there, and its layout."""

    name: str
    node: str
    layout: Layout


def candidates(flow: Flow) -> list[int]:
    """Positions in `flow.pixels` where the network can be cut in two.

    A tensor, batch first, of known layout, that no later node overwrites and past which no
    other value carrying pixels is used.
    """
    order = {node: i for i, node in enumerate(flow.pixels)}
    found, reach = [], 0  # reach: the last use of any value before this one
    for i, node in enumerate(flow.pixels):
        last = max((order.get(user, len(order)) for user in node.users if _carries(user, order)), default=i)
        alone = reach <= i < last
        if i and alone and node in flow.layouts and node not in flow.overwritten and _batch_first(flow, node):
            found.append(i)
        reach = max(reach, last)
    return found


def find(network: nn.Module, flow: Flow, level: str) -> list[Cut]:
    """The cuts of a network at a level, bottom to top; pooling, final norm and classifier are never one."""
    anatomy = _Anatomy(network, flow)
    if not anatomy.trunk:
        return []
    chosen = {"layer": anatomy.layers, "block": anatomy.block_ends, "stage": anatomy.stage_ends}[level]()
    before = [-1, *chosen]
    return [anatomy.cut(i, previous, level) for i, previous in zip(chosen, before, strict=False)]


def _carries(user: fx.Node, order: dict[fx.Node, int]) -> bool:
    return user in order or user.op == "output"


def _batch_first(flow: Flow, node: fx.Node) -> bool:
    small, large = flow.values[node]
    return isinstance(small, Shape) and (small[0], large[0]) == BATCHES and small[1:] == large[1:]


class _Anatomy:
    """What a network is made of, in positions of `flow.pixels`.

    `weighted`: operations with a weight matrix, the classifier left out; `trunk`: candidates
    before the positions are pooled away; `spans`: first and last position of every module;
    `blocks`: path of each block by the position where it ends.
    """

    def __init__(self, network: nn.Module, flow: Flow) -> None:
        self.network, self.flow = network, flow
        self.weighted = [i for i, node in enumerate(flow.pixels) if flow.macs[node]]
        if getattr(network, "num_classes", 1):
            self.weighted = self.weighted[:-1]
        self.trunk = self._trunk()
        self.spans = self._spans()
        self.blocks = self._blocks()
        self.first_block = min((self.spans[path][0] for path in self.blocks.values()), default=None)

    def _trunk(self) -> list[int]:
        trunk = []
        for i in candidates(self.flow):
            if self.flow.positions(self.flow.pixels[i]) == 1:
                break
            trunk.append(i)
        return [i for i in trunk if self.weighted and i >= self.weighted[0]]

    def _spans(self) -> dict[str, tuple[int, int]]:
        spans: dict[str, tuple[int, int]] = {}
        for i, node in enumerate(self.flow.pixels):
            path = self.flow.module(node)
            while path:
                spans[path] = (spans.get(path, (i, i))[0], i)
                path = path.rpartition(".")[0]
        return spans

    def _blocks(self) -> dict[int, str]:
        """The innermost repeated modules that each end at a cut.

        A block holds at least two weight matrices, is an item of a list or one of several of its
        kind, and does not read the pixels itself (that is the stem). A module of another kind in
        the same place of the same list is a block too.
        """
        ends = set(self.trunk)
        kinds: dict[object, list[str]] = defaultdict(list)
        for path, (first, _) in self.spans.items():
            if ends and first <= self.trunk[-1] and self._matrices(path) >= 2:
                kinds[self._kind(path)].append(path)
        repeated = [
            paths
            for paths in kinds.values()
            if len(paths) > 1 and all(self.spans[path][1] in ends for path in paths) and self._listed(paths)
        ]
        innermost = [paths for paths in repeated if not self._encloses(paths, repeated)]
        blocks = {path for paths in innermost for path in paths}
        patterns = {_pattern(path) for path in blocks}
        blocks |= {path for paths in kinds.values() for path in paths if _pattern(path) in patterns}
        inside = {path for path in blocks if self.spans[path][1] in ends and self.spans[path][0] > self.weighted[0]}
        return {self.spans[path][1]: path for path in inside if not _within(path, inside)}

    def _matrices(self, path: str) -> int:
        return sum(p.numel() > max(p.shape, default=1) for p in self.network.get_submodule(path).parameters())

    def _kind(self, path: str) -> object:
        module = self.network.get_submodule(path)
        return tuple(map(type, module.children())) if type(module) is nn.Sequential else type(module)

    def _listed(self, paths: list[str]) -> bool:
        parents = [path.rpartition(".")[0] for path in paths]
        in_list = [isinstance(self.network.get_submodule(p), nn.Sequential | nn.ModuleList) for p in parents]
        return all(in_list) or len(set(parents)) < len(parents)

    @staticmethod
    def _encloses(paths: list[str], repeated: list[list[str]]) -> bool:
        others = [other for group in repeated if group is not paths for other in group]
        return any(other.startswith(path + ".") for path in paths for other in others)

    def layers(self) -> list[int]:
        """One cut per gap between weight matrices: a block's end, else the last of the same resolution."""
        gaps: dict[int, list[int]] = defaultdict(list)
        for i in self.trunk:
            gaps[bisect_right(self.weighted, i)].append(i)
        chosen = [self._of_gap(gap, last=number == len(self.weighted)) for number, gap in sorted(gaps.items())]
        if self.first_block is None:
            return chosen
        stem = max((i for i in self.trunk if i < self.first_block), default=-1)
        return [i for i in [stem] if i >= 0] + [i for i in chosen if i > stem]

    def _of_gap(self, gap: list[int], last: bool) -> int:
        blocks = [i for i in gap if i in self.blocks]
        sizes = {i: math.prod(self.flow.shape(self.flow.pixels[i])) for i in gap}
        same = [i for i in gap if sizes[i] == sizes[gap[0]]]
        if last:  # the final norm belongs to the head
            same = [i for i in same if not self._layer_norm(self.flow.pixels[i])] or same[:1]
        while len(same) > 1 and _rearranges(self.flow.pixels[same[-1]]):
            same.pop()
        return (blocks or same)[-1]

    def _layer_norm(self, node: fx.Node) -> bool:
        return node.op == "call_module" and isinstance(self.network.get_submodule(str(node.target)), nn.LayerNorm)

    def block_ends(self) -> list[int]:
        """The ends of the blocks and of the modules between them; in a network without blocks, the layers."""
        trunk, blocks = set(self.trunk), {self.spans[path] for path in self.blocks.values()}
        between = {
            (first, last)
            for first, last in self.spans.values()
            if last in trunk and not any(first <= end <= last for end in self.blocks)
        }
        whole = blocks | between if blocks else set()
        ends = {max([last for first, last in whole if first <= i <= last], default=i) for i in self.layers()}
        return sorted(ends)

    def stage_ends(self) -> list[int]:
        """The stem, and the last block before each change of resolution."""
        ends = self.block_ends()
        sizes = [self._layout(i).positions(self.flow.shape(self.flow.pixels[i])) for i in ends]
        keep = [a != b for a, b in pairwise(sizes)] + [True]
        if self.first_block is not None:
            keep[0] = True
        return [i for i, kept in zip(ends, keep, strict=True) if kept]

    def cut(self, i: int, previous: int, level: str) -> Cut:
        return Cut(self._name(i, previous, level), self.flow.names[self.flow.pixels[i]], self._layout(i))

    def _layout(self, i: int) -> Layout:
        """The layout of a tensor with the tokens that are not the image's own."""
        prefix, cls = _prefix(self.flow, i)
        return replace(self.flow.layouts[self.flow.pixels[i]], prefix=prefix, cls=cls)

    def _name(self, i: int, previous: int, level: str) -> str:
        """The module whose output is read: the block, else the outermost that runs since the cut before."""
        if self.first_block is not None and previous < 0 and i < self.first_block:
            return STEM
        if level != "stage" and i in self.blocks:
            return self.blocks[i]
        paths = [path for path, (first, last) in self.spans.items() if last == i and first > previous]
        return min(paths, key=len, default=self.flow.names[self.flow.pixels[i]])


def _rearranges(node: fx.Node) -> bool:
    """Whether a node only shows the same numbers in another order or shape."""
    return node.op != "call_module" and node.target in ("reshape", "view", "flatten", "permute", "transpose")


def _pattern(path: str) -> str:
    return re.sub(r"\d+", "*", path)


def _within(path: str, others: Iterable[str]) -> bool:
    return any(path.startswith(other + ".") for other in others)


def _prefix(flow: Flow, i: int) -> tuple[int, bool]:
    """Tokens put before the image's own up to position `i`, and whether the first is a class token."""
    names: list[str] = []
    for node in flow.pixels[: i + 1]:
        pieces = node.args[0] if getattr(node.target, "__name__", "") in ("cat", "concat") else ()
        layout = flow.layouts.get(node)
        if layout is None or not layout.has_tokens or not isinstance(pieces, list | tuple):
            continue
        for piece in pieces:
            if not isinstance(piece, fx.Node) or piece in flow.pixels:
                break
            names += [_parameter(piece)] * flow.shape(piece)[0]
    return (len(names), "cls" in names[0] or "class" in names[0]) if names else (0, False)


def _parameter(node: fx.Node) -> str:
    """Name of the parameter that a token was expanded from."""
    while node.op != "get_attr" and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return str(node.target)
