"""Several processes that train together, as torchrun starts them: data parallel, by the mean of the gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from .run import ALONE, Company


@contextmanager
def company() -> Iterator[Company]:
    """This process among those of torchrun; alone where there is none."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks < 2:
        yield ALONE
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Company(dist.get_rank(), ranks, _mean)
    finally:
        dist.destroy_process_group()


def local_device() -> str:
    """The device of this process: a GPU of its own where there are some."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"


@contextmanager
def first_alone(own: Company) -> Iterator[None]:
    """Let the first process do a work before the others, which then find its files."""
    if own.ranks > 1 and own.rank:
        dist.barrier()
    yield
    if own.ranks > 1 and not own.rank:
        dist.barrier()


def _mean(tensors: list[Tensor]) -> None:
    """Replace tensors by their mean over all processes, in one message."""
    flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
