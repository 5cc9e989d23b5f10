"""How the model works: what is shared, how much memory it may take, and the account of it that the user asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from obverse.errors import MethodError, nearest
from obverse.models.base import LanguageModel
from obverse.models.precision import NUMBER_TYPES
from obverse.reports.work import work_lines

PLANS = ("shared", "naive")
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Attributes:
    plan: `shared`, or `naive`: each query computed alone.
    memory_limit: as typed, `512MB`; None for none.
    explain: whether the account is told.
    number_type: of the weights, `fp32`, `bf16` or `int8`; None for what the device is best at without loss.
    """

    plan: str = "shared"
    memory_limit: str | None = None
    explain: bool = False
    number_type: str | None = None

    def check(self) -> None:
        """Refuse what cannot be, before anything is loaded.

        Raises:
            MethodError: an unknown plan, or a limit that is no size.
        """
        if self.plan not in PLANS:
            raise MethodError(f"unknown plan {self.plan!r}", where="--plan", mend=nearest(self.plan, PLANS))
        if self.memory_limit is not None:
            size_in_bytes(self.memory_limit)
        if self.number_type not in (None, *NUMBER_TYPES):
            mend = nearest(self.number_type, NUMBER_TYPES)
            raise MethodError(f"unknown number type {self.number_type!r}", where="--number-type", mend=mend)

    def prepare(self, model: LanguageModel) -> None:
        """Set the model to work so.

        Raises:
            ModelError: the limit is too small for it, or the machine is not made for the number type.
        """
        if self.number_type is not None:
            model.set_number_type(self.number_type)
        limit = None if self.memory_limit is None else size_in_bytes(self.memory_limit)
        model.limit(memory=limit, naive=self.plan == "naive")

    def account(self, model: LanguageModel) -> tuple[str, ...]:
        """What was asked and what was computed, if that is wanted."""
        return tuple(work_lines(model.work)) if self.explain else ()


def size_in_bytes(text: str) -> int:
    """The number that `512MB`, `2 GiB` or `300000000` stands for.

    Raises:
        MethodError: it is no size.
    """
    match = _SIZE.fullmatch(text)
    unit = match[2].lower() if match else ""
    if match is None or unit not in _UNITS or len(match[1]) > 15 or float(match[1]) * _UNITS[unit] < 1:
        raise MethodError(
            f"{text!r} is no size",
            where="--memory-limit",
            mend="Write a number and one of kB, MB, GB, KiB, MiB, GiB: 512MB, 2GB, 1.5GiB.",
        )
    return int(float(match[1]) * _UNITS[unit])
