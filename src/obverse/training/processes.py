"""Training in one process or in several, each with a copy of the network or with its share of it (`sharding`).

A launcher (`accelerate launch`, `torchrun`) starts the processes and tells each its number; without one there is a
single process, and nothing here needs accelerate. Gradients of copies are added up once a step and not in each backward
pass: processes may then have different numbers of micro-batches, or none, and the sum is that of one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from obverse.errors import ObverseError, RecipeError

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = timedelta(hours=6)  # how long one process waits for another: the main one evaluates alone
_BUCKET = 1 << 24  # elements sent at a time


class Processes:
    """This process among those that train together.

    Attributes:
        number: this process's, counted from 0.
        count: how many there are.
        device: where this one computes.
    """

    def __init__(self, number: int, count: int, device: torch.device) -> None:
        self.number = number
        self.count = count
        self.device = device

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files."""
        return self.number == 0

    def gather(self, value: T) -> list[T]:
        """The values of all processes in the order of their numbers, in every process."""
        if self.count == 1:
            return [value]
        values: list[T | None] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def on_main(self, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What the call returns in the main process, in every process; an error of Obverse is raised in every one."""
        if self.count == 1:
            return call(*args, **named)
        told: list[T | ObverseError | None] = [None]
        if self.is_main:
            try:
                told[0] = call(*args, **named)
            except ObverseError as error:
                told[0] = error
        torch.distributed.broadcast_object_list(told, src=0)
        if isinstance(told[0], ObverseError):
            raise told[0]
        return told[0]  # type: ignore[return-value]

    def together(self, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What the call returns in this process; an error of Obverse in any of them is raised in every one."""
        if self.count == 1:
            return call(*args, **named)
        value: T | None = None
        error: ObverseError | None = None
        try:
            value = call(*args, **named)
        except ObverseError as raised:
            error = raised
        first = next((told for told in self.gather(error) if told is not None), None)
        if first is not None:
            raise first
        return value  # type: ignore[return-value]

    def main_first(self, call: Callable[P, object], *args: P.args, **named: P.kwargs) -> None:
        """Call in the main process, then in the others; an error of Obverse in any is raised in every one."""
        for turn in (True, False):
            self.together(lambda mine: call(*args, **named) if mine else None, self.is_main == turn)

    def share_weights(self, network: nn.Module) -> None:
        """Give every process the main one's parameters and buffers."""
        if self.count > 1:
            with torch.no_grad():
                for tensor in (*network.parameters(), *network.buffers()):
                    torch.distributed.broadcast(tensor.data, src=0)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every process the sum of all processes' gradients; one that none of them has stays away."""
        if self.count == 1:
            return
        present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=self.device)
        torch.distributed.all_reduce(present, torch.distributed.ReduceOp.MAX)
        for parameter, somewhere in zip(parameters, present.tolist(), strict=True):
            if somewhere and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            torch.distributed.all_reduce(flat)
            begin = 0
            for gradient in bucket:
                gradient.copy_(flat[begin : begin + gradient.numel()].view_as(gradient))
                begin += gradient.numel()


def join_processes(device: torch.device) -> Processes:
    """Meet the other processes of this launch, if there are any.

    Args:
        device: where to compute. Of several processes with accelerators each has one of its own.

    Raises:
        RecipeError: there are several and accelerate is not installed, or the launch asks for a sharded network.
    """
    for variable, name in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")):
        if os.environ.get(variable, "").lower() in ("true", "1"):
            raise RecipeError(
                f"the launch asks for {name}, which would divide the network among the processes",
                where=variable,
                mend="Launch without it. For a network that is too large for one device, write sharded = true "
                "under [model].",
            )
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        return Processes(0, 1, device)
    try:
        from accelerate import PartialState  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise RecipeError(
            "training in several processes needs accelerate", mend="pip install 'obverse[train]'"
        ) from None
    state = PartialState(cpu=device.type == "cpu", timeout=_PATIENCE)
    return Processes(state.process_index, state.num_processes, state.device)


def _buckets(tensors: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Neighbours of one number type, together not much larger than a bucket."""
    bucket: list[Tensor] = []
    held = 0
    for tensor in tensors:
        if bucket and (held + tensor.numel() > _BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += tensor.numel()
    if bucket:
        yield bucket
