"""Devices, precision and processes: one Fabric object, so that several GPUs under torchrun need no other code."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from probe.base.errors import ProbeError
from probe.base.runtime import pick_device
from probe.finetuning.applied_strategy import batchnorms
from probe.settings import Training

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def make_fabric(training: Training) -> Fabric:
    """One process on the device asked for, or, under torchrun, one of as many as it started.

    Raises ProbeError for a device that is not there, or one that cannot train in float16.
    """
    device = pick_device(training.device)
    kind, _, index = device.partition(":")
    if training.precision == "float16" and kind != "cuda":
        raise ProbeError(f"float16 is trained on a GPU, and the device is {device}; take bfloat16 or float32")
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    several = world > 1
    fabric = Fabric(
        accelerator=kind,
        devices=local if several else [int(index)] if index and kind != "cpu" else 1,
        num_nodes=world // local,
        strategy="ddp" if several else "auto",
        precision=PRECISIONS[training.precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return int(os.environ.get("RANK", 0)) == 0


def add_up(fabric: Fabric, tensors: Sequence[Tensor]) -> None:
    """Replace tensors, alike in all processes, by their sums over the processes."""
    if fabric.world_size == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    fabric.all_reduce(flat, reduce_op="sum")  # in place
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def share_statistics(fabric: Fabric, model: nn.Module) -> None:
    """Average the running statistics of BatchNorm, of which each process has seen its part of every step."""
    buffers = [b for norm in batchnorms(model) for b in norm.buffers() if b.is_floating_point()]
    add_up(fabric, buffers)
    for buffer in buffers:
        buffer /= fabric.world_size


@contextmanager
def drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout inside draws from `seed`; the random states of processor and device are left as they were."""
    cuda = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
