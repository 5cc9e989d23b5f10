"""Optimizers with their rates: one for the whole network or one for each part, over a warm-up, a level and a decay."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from obverse.errors import RecipeError, nearest
from obverse.training.sharding import divided_like, is_share, own, own_rows

OPTIMIZERS = ("adafactor", "adamw")


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """Which optimizer, and how fast.

    The rate rises linearly to its level over the first `warmup_steps`, stays there, and falls linearly over the last
    `decay_steps`, where the last step still moves; with both 0 it is constant.

    Attributes:
        name: `adafactor` (transformers' class without relative steps and parameter scaling, as the Flipped paper's
            code has it; torch's own computes other updates) or `adamw` (torch's).
        rate: the level of the learning rate.
        weight_decay: decoupled, on every trained parameter.
        scale_parameter: adafactor: the rate is relative to the size of each parameter.
        rates: parameter name or its leading parts ("encoder", "decoder.block.0") -> a rate of its own; the longest
            one that fits counts. 0 leaves the part as it is, its decay included.

    Raises:
        RecipeError: a value is out of its range; all of them are named.
    """

    name: str = "adafactor"
    rate: float = 1e-4
    weight_decay: float = 0.0
    rates: Mapping[str, float] = field(default_factory=dict)
    warmup_steps: int = 0
    decay_steps: int = 0
    scale_parameter: bool = False

    def __post_init__(self) -> None:
        faults = []
        if self.name not in OPTIMIZERS:
            faults.append(f"name is {self.name!r} and must be one of {', '.join(OPTIMIZERS)}")
        for key, value in (
            ("rate", self.rate),
            ("weight_decay", self.weight_decay),
            *((f"rates.{prefix}", rate) for prefix, rate in self.rates.items()),
        ):
            if not is_amount(value):
                faults.append(f"{key} is {value!r} and must be a number from 0 up")
        for key, steps in (("warmup_steps", self.warmup_steps), ("decay_steps", self.decay_steps)):
            if not is_count(steps):
                faults.append(f"{key} is {steps!r} and must be a whole number from 0 up")
        if faults:
            raise RecipeError("; ".join(faults), where="optimizer")


def rate_factor(settings: OptimizerSettings, step: int, steps: int) -> float:
    """What the rates are multiplied by at `step`, counted from 0, of `steps`."""
    up = (step + 1) / settings.warmup_steps if settings.warmup_steps else 1.0
    down = (steps - step) / settings.decay_steps if settings.decay_steps else 1.0
    return max(0.0, min(1.0, up, down))


def build_optimizer(network: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer over the parameters of `network` that require a gradient.

    Parameters of the main rate form the first group, and those of each entry of `rates` one more, in the order in
    which the entries are written; a shared table counts once. A network that is divided among processes has been so
    before.

    Raises:
        RecipeError: nothing is trained, or an entry of `rates` fits no trained parameter.
    """
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    if not trained:
        raise RecipeError("no parameter of the model is trained", where="model", mend="Freeze less of it.")
    groups: dict[str, list[nn.Parameter]] = {"": [], **{prefix: [] for prefix in settings.rates}}
    for name, parameter in trained:
        groups[max((prefix for prefix in groups if _leads(prefix, name)), key=len)].append(parameter)
    for prefix in settings.rates:
        if not any(_leads(prefix, name) for name, _ in trained):
            raise RecipeError(
                f"no trained parameter's name begins with {prefix!r}",
                where=f"optimizer.rates.{prefix}",
                mend=nearest(prefix, _leading_parts((name for name, _ in trained), prefix.count(".") + 1)),
            )
    listed: list[dict[str, Any]] = [
        {"params": parameters, "lr": settings.rates.get(prefix, settings.rate), "weight_decay": settings.weight_decay}
        for prefix, parameters in groups.items()
        if parameters
    ]
    if settings.name == "adamw":
        return torch.optim.AdamW(listed, lr=settings.rate)
    from transformers.optimization import Adafactor

    made: torch.optim.Optimizer = Adafactor(  # type: ignore[no-untyped-call]
        listed, lr=settings.rate, scale_parameter=settings.scale_parameter, relative_step=False, warmup_init=False
    )
    if any(is_share(parameter) for _, parameter in trained):
        return ShardedAdafactor(made.param_groups, made.defaults)
    return made


class ShardedAdafactor(torch.optim.Optimizer):
    """transformers' Adafactor (`transformers.optimization`) of parameters whose rows are divided among processes.

    Its means and norms go over all rows of a matrix, so what each process finds in its own is added up, for all
    parameters at once, twice a step. The factors of the second moment are small, and every process holds them whole,
    under the names and in the shapes that the undivided one gives them.

    Args:
        groups, defaults: of the undivided one, without relative steps and without a first moment.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move the parameters; their gradients are written over on the way."""
        pieces = [
            _Piece(parameter, self.state[parameter], group)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        for piece, sums in zip(pieces, _summed([piece.statistics() for piece in pieces]), strict=True):
            piece.precondition(*sums)
        for piece, (square,) in zip(pieces, _summed([(piece.size(),) for piece in pieces]), strict=True):
            piece.move(square)


class _Piece:
    """This process's rows of one parameter in one step of Adafactor."""

    def __init__(self, parameter: nn.Parameter, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        self._shape = parameter.shape
        self._numel = parameter.numel()
        self._rows = own_rows(parameter)
        self._weights = own(parameter)
        self._update = own(gradient)
        self._state = state
        self._group = group
        if not state:
            whole = self._weights.new_zeros
            state["step"] = 0
            if len(self._shape) < 2:
                state["exp_avg_sq"] = divided_like(whole(self._shape), parameter)
            else:
                state["exp_avg_sq_row"] = whole(self._shape[:-1])
                state["exp_avg_sq_col"] = whole((*self._shape[:-2], self._shape[-1]))
        state["step"] += 1

    def statistics(self) -> tuple[Tensor, ...]:
        """What of the gradient's squares and the weights' norm the rows here contribute."""
        norm = self._weights.square().sum()
        if len(self._shape) < 2:
            return (norm,)
        squares = self._squares()
        row = self._weights.new_zeros(self._shape[:-1])
        row[self._rows] = squares.mean(-1)
        if len(self._shape) == 2:
            return norm, row, squares.sum(-2) / self._shape[0]
        column = self._weights.new_zeros((*self._shape[:-2], self._shape[-1]))
        column[self._rows] = squares.mean(-2)
        return norm, row, column

    def precondition(self, norm: Tensor, row: Tensor | None = None, column: Tensor | None = None) -> None:
        """Divide the gradient by the root of its second moment."""
        state = self._state
        state["RMS"] = (norm / self._numel).sqrt()
        decay = 1.0 - math.pow(state["step"], self._group["decay_rate"])
        if row is None or column is None:
            moment = own(state["exp_avg_sq"])
            moment.mul_(decay).add_(self._squares(), alpha=1.0 - decay)
            self._update.mul_(moment.rsqrt())
            return
        rows, columns = state["exp_avg_sq_row"], state["exp_avg_sq_col"]
        rows.mul_(decay).add_(row, alpha=1.0 - decay)
        columns.mul_(decay).add_(column, alpha=1.0 - decay)
        each = (rows / rows.mean(-1, keepdim=True)).rsqrt()[self._rows].unsqueeze(-1)
        across = columns.rsqrt() if len(self._shape) == 2 else columns[self._rows].rsqrt()
        self._update.mul_(each * across.unsqueeze(-2))

    def size(self) -> Tensor:
        """The sum of squares of the update here."""
        square: Tensor = self._update.square().sum()
        return square

    def move(self, square: Tensor) -> None:
        """Add the update, bounded by the size that it has over all rows."""
        group = self._group
        rate = group["lr"]
        if group["scale_parameter"]:
            rate = rate * max(group["eps"][1], float(self._state["RMS"]))
        size = (square / self._numel).sqrt()
        self._update.div_((size / group["clip_threshold"]).clamp_(min=1.0)).mul_(rate)
        if group["weight_decay"]:
            self._weights.mul_(1.0 - group["weight_decay"] * rate)
        self._weights.sub_(self._update)

    def _squares(self) -> Tensor:
        least: float = self._group["eps"][0]
        return self._update.square() + least


def _summed(parts: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    """Each tensor summed over all processes, which bring tensors of the same shapes; all sent at once."""
    tensors = [tensor for each in parts for tensor in each]
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    torch.distributed.all_reduce(flat)
    sums = iter(torch.split(flat, [tensor.numel() for tensor in tensors]))
    return [tuple(next(sums).view_as(tensor) for tensor in each) for each in parts]


def is_amount(value: object) -> bool:
    """A finite number from 0 up; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def is_count(value: object, *, least: int = 0) -> bool:
    """A whole number from `least` up; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _leads(prefix: str, name: str) -> bool:
    """Whether `prefix` is the name or its leading dotted parts; the empty one leads every name."""
    return not prefix or name == prefix or name.startswith(f"{prefix}.")


def _leading_parts(names: Iterable[str], depth: int) -> set[str]:
    return {".".join(name.split(".")[:depth]) for name in names}
