"""How much work a model was asked for, how much of it was done, and how many tokens a batch may hold.

Under a memory limit the need is measured, not guessed: batches begin small and grow while the peak that was measured,
scaled to the next size, stays under the limit. A batch that does not fit all the same is divided and run again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from obverse.errors import ModelError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
A = TypeVar("A")

_USUAL_CPU = 1024
_USUAL_ACCELERATOR = 8192
# Under a limit the first batch has so many tokens, and each is at most so many times as large as the largest before.
_FIRST = 64
_GROWTH = 2
# Of the limit; the rest is for what a batch of a size measured before needs beyond it.
_SHARE = 0.8
_LEAST = 16 * 10**6
# Logits computed at once, in numbers: on a processor a fifth slower with a quarter of them, and no faster with more.
_HEAD_CPU = 8_000_000
_HEAD_ACCELERATOR = 64_000_000
# Bytes of a logit and of its log-probability, and what part of a limit they may take together.
_LOGIT_BYTES, _LOGITS_SHARE = 8, 4
# Parameters of glibc's `mallopt`.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(slots=True)
class Work:
    """What was asked of a model and what it computed, summed over its calls.

    Attributes:
        queries: asked, repetitions counted.
        asked: tokens that would go through the network if each query were run alone, padding not counted.
        computed: tokens that went through it. Padding counts, for it is computed too.
        batches: forward passes over bodies (an encoder's and a decoder's are two).
        planning: seconds spent on tokenising and on choosing what is computed when.
        seconds: all the time spent.
        stored: tokens of beginnings that were computed once and seen by many.
        estimated: bytes that a batch of the largest size allowed should take, by the network's widths.
        peak: bytes in use at most since `LanguageModel.limit` was last called, over those in use then; None where that
            cannot be measured.
        padding: of the computed ones, those that are padding.
        unshared: queries that were read whole, because this class of network cannot go on from a shared beginning.
    """

    queries: int = 0
    asked: int = 0
    computed: int = 0
    batches: int = 0
    planning: float = 0.0
    seconds: float = 0.0
    stored: int = 0
    estimated: int | None = None
    peak: int | None = None
    padding: int = 0
    unshared: int = 0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time of a whole call."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - begun

    @contextmanager
    def planning_timed(self) -> Iterator[None]:
        """Count the time of what is worked out before anything is computed."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.planning += time.perf_counter() - begun

    def planned(self, steps: Iterable[T]) -> Iterator[T]:
        """The steps, the time of working each one out counted as planning."""
        source = iter(steps)
        while True:
            with self.planning_timed():
                step = next(source, None)
            if step is None:
                return
            yield step


class NoMemory(ModelError):
    """A part of the work does not fit into memory, and cannot be divided any more."""


class Budget:
    """Tokens that a batch may hold.

    Args:
        device: where the model is.
        tokens: of a batch at most; None chooses by device.
        token_bytes: what a token takes on its way through a layer, for the estimate.
    """

    def __init__(self, device: torch.device, tokens: int | None = None, *, token_bytes: int = 0) -> None:
        self._token_bytes = token_bytes
        on_cpu = device.type == "cpu"
        if on_cpu:
            _keep_freed_memory()
        self._usual = tokens or (_USUAL_CPU if on_cpu else _USUAL_ACCELERATOR)
        self._head = _HEAD_CPU if on_cpu else _HEAD_ACCELERATOR
        self._most = self._usual
        self._meter = _Meter(device)
        self._meter.start()
        self._limit: int | None = None
        self._largest = 0
        self._now = self._most

    @property
    def peak(self) -> int | None:
        """Bytes in use at most since the limit was set, over those in use then; None where it cannot be measured."""
        return self._meter.peak()

    @property
    def estimate(self) -> int:
        """Bytes that a batch of the size allowed now should take."""
        return self._now * self._token_bytes

    def limit(self, memory: int | None) -> None:
        """Keep the memory of batches under so many bytes; None takes the limit away.

        The weights and all else that is in memory when the limit is set do not count.

        Raises:
            ModelError: it is less than a few batches' own overhead, or memory cannot be measured here.
        """
        if memory is not None and memory < _LEAST:
            raise ModelError(
                f"a memory limit of {memory:,} bytes is too small to run a network in",
                mend="Give at least 16MB beyond the model's weights; 256MB is comfortable for small models.",
            )
        if memory is not None and self._meter.peak() is None:
            raise ModelError(
                "the memory in use cannot be measured on this system, so no limit can be kept",
                where="memory limit",
                mend="Leave the limit out; batches of the usual size are small.",
            )
        self._meter.start()
        self._limit, self._largest, self._most = memory, 0, self._usual
        self._now = self._most if memory is None else min(_FIRST, self._most)

    def __call__(self) -> int:
        return self._now

    def head_rows(self, vocabulary: int) -> int:
        """Positions that the head runs on at a time, for a vocabulary of so many tokens."""
        numbers = self._head if self._limit is None else min(self._head, self._limit // (_LOGIT_BYTES * _LOGITS_SHARE))
        return max(1, numbers // vocabulary)

    def note(self, tokens: int) -> None:
        """A batch of so many tokens has been computed."""
        if self._limit is None:
            return
        self._largest = max(self._largest, tokens)
        used = self._meter.peak() or 0
        fits = int(self._largest * self._limit * _SHARE / max(used, 1))
        self._now = max(1, min(self._most, fits, self._largest * _GROWTH))

    def halve(self) -> None:
        """A batch did not fit: no later one is larger than half of it."""
        self._most = max(1, self._now // 2)
        self._now = self._most


def divided(batch: Sequence[T], compute: Callable[[Sequence[T]], Sequence[A]], *, halve: Callable[[], None]) -> list[A]:
    """What `compute` returns for the members of a batch, which is divided where it does not fit into memory.

    Args:
        compute: answers for the members, in order. It leaves nothing half done when it fails.
        halve: told of each division.

    Raises:
        NoMemory: a single member does not fit.
    """
    try:
        return list(compute(batch))
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
    # Outside of the handler: the error holds on to the frames, and they to the tensors of the pass that failed.
    halve()
    if len(batch) < 2:
        raise NoMemory(
            "one text alone does not fit into memory",
            mend="Shorten it, take a smaller model, or run on a machine with more memory.",
        )
    middle = len(batch) // 2
    parts = (batch[:middle], batch[middle:])
    return [answer for part in parts for answer in divided(part, compute, halve=halve)]


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return "can't allocate memory" in text or "not enough memory" in text or "out of memory" in text


def _keep_freed_memory() -> None:
    """Have this process keep large blocks that are freed, up to some 500 MB, instead of giving each back at once.

    glibc's usual way is to give them back and to get them anew, page by page, for the next layer: a tenth of a
    network's time. Whoever has set the allocator up by its environment variables is left alone.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):  # other systems' libraries have no such function
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that it accepts
        mallopt(_M_TRIM_THRESHOLD, 512 << 20)


@dataclass(slots=True)
class _Meter:
    """The peak of the memory in use."""

    device: torch.device
    _base: int = field(default=0)

    def start(self) -> None:
        if self.device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
            self._base = torch.cuda.memory_allocated(self.device)
            return
        with contextlib.suppress(OSError):
            # Linux forgets the highest mark of this process; from here on it is measured anew.
            _CLEAR.write_text("5")
        self._base = _status("VmRSS") or 0

    def peak(self) -> int | None:
        if self.device.type == "cuda":
            import torch

            return max(0, torch.cuda.max_memory_allocated(self.device) - self._base)
        highest = _status("VmHWM")
        return None if highest is None else max(0, highest - self._base)


def _status(key: str) -> int | None:
    """A figure of this process in bytes; None where the system does not tell."""
    try:
        for line in _STATUS.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
