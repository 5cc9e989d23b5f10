"""Checkpoints: the whole state of a training run in a folder that is there entirely or not at all.

::

    OUTPUT/
      .lock                     while a process trains here
      step-00000400/            the newest checkpoints, weights and optimiser
      step-00000600/
      best/                     the weights that scored best
        weights.safetensors     the trained parameters, a tied table once
        optimizer.safetensors   the optimiser's tensors (steps only)
        optimizer.json          its numbers and settings (steps only)
        checkpoint.json         the state, the fingerprint, and the size and checksum of the files above

Nothing is pickled. A checkpoint is written beside its place, brought to the disk file by file with `checkpoint.json`
last, and then renamed; what a kill leaves over is hidden and cleaned away by the next run. The files are the same
whatever the number of processes, and whether each held a copy of the weights or a share of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from obverse.errors import ObverseError, OutputError
from obverse.runs.disk import Lock, fsync, sync_folder
from obverse.training.sharding import divided_like, is_sharded, is_share, own, own_rows, whole

Fingerprint = Mapping[str, Any]
"""Setting -> JSON value, nested as the recipe is: everything that the numbers of the run depend on."""

VERSION = 1

WEIGHTS, OPTIMIZER, OPTIMIZER_NUMBERS, MANIFEST = (
    "weights.safetensors",
    "optimizer.safetensors",
    "optimizer.json",
    "checkpoint.json",
)

_STEP = re.compile(r"step-(\d{8,})")
_HIDDEN = re.compile(r"\.(step-\d{8,}|best)\.(new|old|gone)")
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_NAMED = 5  # differences told in one message
_CHUNK = 1 << 24


class DamagedCheckpoint(OutputError):
    """A checkpoint of which a file is missing, cut short or altered."""


@dataclass(slots=True)
class TrainingState:
    """Where a run stands; with the weights and the optimiser it is all that a checkpoint holds.

    There is no state of random generators: every draw, negative and dropout mask derives from the seed and the step.

    Attributes:
        step: how many steps are done.
        best_score: the best held-out score so far; None before the first evaluation.
        best_step: how many steps were done then.
        evaluations_without_gain: how many evaluations ago that was.
        draws_seen: examples drawn, over all processes.
        tokens_seen: tokens that went through the network, padding left out.
        loss_history: the last losses, oldest first; what the rule for divergence looks back on.
    """

    step: int = 0
    best_score: float | None = None
    best_step: int | None = None
    evaluations_without_gain: int = 0
    draws_seen: int = 0
    tokens_seen: int = 0
    loss_history: tuple[float, ...] = ()


class Keeper:
    """The checkpoints of one run: the newest few and the best. One process at a time may train in a folder.

    Used as a context manager, which takes the folder's lock, cleans away what a killed run left half done, and gives
    the folder back at the end. With several processes every one makes a Keeper and calls the same methods; all but
    one with `writes=False`, and that one's context is entered first. Where weights are divided, saving is a meeting.

    Args:
        output: the run's folder; made if need be.
        keep_last: how many of the newest checkpoints to keep.
        fingerprint: what a later resume must bring again.
        resume: go on with the run that lies there.
        writes: whether this process is the one that writes.
        note: is told what a person should know, a sentence at a time.

    Raises:
        OutputError: the folder holds a run and `resume` is not set; or holds one of another recipe; or another
            process is training there; or it cannot be written to.
    """

    def __init__(
        self,
        output: str | Path,
        *,
        keep_last: int = 2,
        fingerprint: Fingerprint | None = None,
        resume: bool = False,
        writes: bool = True,
        note: Callable[[str], None] | None = None,
    ) -> None:
        if keep_last < 1:
            raise OutputError(f"keeps {keep_last} checkpoints", where="save.keep", mend="Keep at least 1.")
        self.output = Path(output)
        self._keep_last = keep_last
        self._fingerprint = dict(fingerprint or {})
        self._resume = resume
        self._writes = writes
        self._note = note or (lambda text: None)
        self._lock: Lock | None = None
        self._damaged: list[Path] = []

    def __enter__(self) -> Keeper:
        if self._writes:
            with _writing(self.output, "the folder cannot be made"):
                self.output.mkdir(parents=True, exist_ok=True)
            self._lock = Lock.take(self.output)
        try:
            if self._writes:
                with _writing(self.output, "the folder cannot be cleaned"):
                    _tidy(self.output)
            check_output(self.output, fingerprint=self._fingerprint, resume=self._resume)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    @property
    def steps(self) -> list[Path]:
        """The numbered checkpoints, oldest first."""
        return step_folders(self.output)

    @property
    def last(self) -> Path | None:
        """The newest numbered checkpoint, or None."""
        return self.steps[-1] if self.steps else None

    @property
    def best(self) -> Path | None:
        """The folder of the best weights, or None."""
        folder = self.output / "best"
        return folder if _standing(folder) else None

    def begin(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> TrainingState:
        """The state to go on from: of the newest whole checkpoint, loaded; or that of step 0.

        A damaged checkpoint is named in a note and the one before it is taken.

        Raises:
            OutputError: no checkpoint there is whole; it belongs to another model; or the disk has no room for what
                this run will keep.
        """
        if self._writes:
            self._check_space(network, optimizer)
        folders = self.steps[::-1] if self._resume else []
        for folder in folders:
            try:
                state = load(folder, network, optimizer)
            except DamagedCheckpoint as error:
                self._damaged.append(folder)
                self._note(f"{error.where}: {error.what}; looking for an earlier one")
                continue
            self._note(f"going on from step {state.step:,} ({folder})")
            return state
        if folders:
            raise OutputError(
                f"no checkpoint there is whole ({', '.join(f.name for f in folders)})",
                where=str(self.output),
                mend="Begin anew in another folder, or put a copy of a checkpoint back in its place.",
            )
        return TrainingState()

    def save_last(self, network: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState) -> Path:
        """Write the numbered checkpoint of this step, then let go of those too old to keep.

        Raises:
            OutputError: it cannot be written; those that were there are untouched.
        """
        folder = self.output / f"step-{state.step:08d}"
        if self._writes or is_sharded(network):
            save(folder, network, optimizer, state, fingerprint=self._fingerprint, writes=self._writes)
        if self._writes:
            with _writing(self.output, "an old checkpoint cannot be removed"):
                self._prune(folder)
        return folder

    def save_best(self, network: nn.Module, state: TrainingState) -> Path:
        """Write the weights alone as `best`, in place of the best so far.

        Raises:
            OutputError: it cannot be written; the best so far is untouched.
        """
        folder = self.output / "best"
        if self._writes or is_sharded(network):
            save(folder, network, None, state, fingerprint=self._fingerprint, writes=self._writes)
        return folder

    def load_best(self, network: nn.Module) -> TrainingState | None:
        """The best weights into the network, and the state they were written with; None where there are none.

        Raises:
            OutputError: they are damaged or belong to another model.
        """
        return load(self.best, network) if self.best else None

    def _prune(self, newest: Path) -> None:
        for folder in self._damaged:
            if folder != newest and folder.exists():
                aside = folder.with_name(f"{folder.name}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                os.rename(folder, aside)
                self._note(f"{folder}: damaged, set aside as {folder.name}.damaged")
        self._damaged.clear()
        for folder in self.steps[: -self._keep_last]:
            _remove(folder)

    def _check_space(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        weights, moments = checkpoint_bytes(network, optimizer)
        wanted = (self._keep_last + 1) * (weights + moments) + 2 * weights  # each is written before an old one goes
        there = sum(file.stat().st_size for folder in self._kept() for file in folder.iterdir())
        free = shutil.disk_usage(self.output).free
        if wanted - there > free:
            raise OutputError(
                f"the checkpoints of this run need about {_size(wanted - there)}, and {_size(free)} are free",
                where=str(self.output),
                mend="Free some space, keep fewer checkpoints (save.keep), or name an output on another disk.",
            )

    def _kept(self) -> list[Path]:
        return [*self.steps, *([self.best] if self.best and self.best.exists() else [])]

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def check_output(output: str | Path, *, fingerprint: Fingerprint | None = None, resume: bool = False) -> None:
    """Refuse a folder that this run may not write to, before a model is loaded.

    Raises:
        OutputError: it holds a run and `resume` is not set; or, with `resume`, a run of another recipe.
    """
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise OutputError("is a file, not a folder", where=str(output), mend="Name a folder for the run.")
    folders = step_folders(output)
    if not resume:
        if folders or _standing(output / "best"):
            raise OutputError(
                "holds a training run already",
                where=str(output),
                mend="--resume goes on with it; or name another folder.",
            )
        return
    for folder in (*folders[::-1], output / "best"):
        with contextlib.suppress(DamagedCheckpoint):
            stored = _read_manifest(folder)["fingerprint"]
            differences = differing(stored, fingerprint or {})
            if differences:
                raise OutputError(
                    "\n".join(["the run there was started with another recipe", *_some(differences, each="  ")]),
                    where=str(output),
                    mend="--resume goes on only with the same recipe; name another folder to begin anew.",
                )
            return


def step_folders(output: str | Path) -> list[Path]:
    """The numbered checkpoints of a run's folder, oldest first."""
    output = Path(output)
    if not output.is_dir():
        return []
    numbered = [(int(match[1]), p) for p in output.iterdir() if (match := _STEP.fullmatch(p.name)) and p.is_dir()]
    return [folder for _, folder in sorted(numbered)]


def differing(stored: Fingerprint, wanted: Fingerprint) -> list[str]:
    """The settings in which two fingerprints differ, a line each: `optimizer.rate: 5e-05 there, 0.0001 now`."""
    old, new = dict(_flat(_as_json(stored))), dict(_flat(_as_json(wanted)))
    return [
        f"{key}: {_shown(old, key)} there, {_shown(new, key)} now"
        for key in dict.fromkeys([*old, *new])
        if _shown(old, key) != _shown(new, key)
    ]


def fingerprint_digest(fingerprint: Fingerprint) -> str:
    """Hexadecimal SHA-256 of the settings, whatever their order."""
    text = json.dumps(_as_json(fingerprint), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def save(
    folder: str | Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    state: TrainingState,
    *,
    fingerprint: Fingerprint | None = None,
    writes: bool = True,
) -> None:
    """Write the trained parameters, the optimiser and the state as `folder`, whole or not at all.

    Args:
        optimizer: None for the weights alone.
        fingerprint: the settings the numbers depend on.
        writes: whether this process is the one that writes. Where the network is divided, all of them call.

    Raises:
        OutputError: it cannot be written; what was there before is untouched.
    """
    folder = Path(folder)
    moments, numbers = (None, None) if optimizer is None else _taken_apart(optimizer, network, where=str(folder))
    # All that is divided is gathered before anything can fail on the disk of one process, for whom the rest would wait.
    weights = _distinct(whole(_trained(network), keep=writes))
    moments = None if moments is None else _distinct(whole(moments, keep=writes))
    if not writes:
        return
    fresh = _hidden(folder, "new")
    with _writing(folder, f"the checkpoint of step {state.step:,} cannot be written"):
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            _write_tensors(fresh / WEIGHTS, weights)
            if moments is not None and numbers is not None:
                _write_tensors(fresh / OPTIMIZER, moments)
                _write_json(fresh / OPTIMIZER_NUMBERS, numbers)
            files = {
                file.name: {"bytes": file.stat().st_size, "crc32": _checksum(file)} for file in sorted(fresh.iterdir())
            }
            manifest = {
                "obverse_checkpoint": VERSION,
                "state": dataclasses.asdict(state),
                "fingerprint": _as_json(fingerprint or {}),
                "digest": fingerprint_digest(fingerprint or {}),
                "files": files,
            }
            _write_json(fresh / MANIFEST, manifest)
            sync_folder(fresh)
            _put_in_place(fresh, folder)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


def load(folder: str | Path, network: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> TrainingState:
    """Parameters and, where asked for, the optimiser back in place, bit for bit; everything is checked first.

    Raises:
        DamagedCheckpoint: a file is missing, cut short or altered.
        OutputError: there is none; or it belongs to another model or optimiser.
    """
    from safetensors import safe_open

    folder = Path(folder)
    standing = _standing(folder)
    if standing is None:
        if folder.is_dir():
            raise DamagedCheckpoint(f"has no {MANIFEST}: it is not a whole checkpoint", where=str(folder))
        raise OutputError("there is no such checkpoint", where=str(folder), mend="Name the folder of one.")
    manifest = _read_manifest(standing)
    _verify(standing, manifest["files"])
    state = _state(manifest["state"], standing)
    numbers = None
    if optimizer is not None:
        if OPTIMIZER not in manifest["files"]:
            raise OutputError(
                "holds weights alone, so training cannot go on from it",
                where=str(folder),
                mend="Take a numbered checkpoint.",
            )
        numbers = _read_json(standing / OPTIMIZER_NUMBERS)
    parameters = _trained(network)
    with _opened(safe_open, standing / WEIGHTS) as file:
        _check_shapes(file, parameters, folder)
        if optimizer is not None:
            groups = _named_groups(optimizer, network, where=str(folder))
            _check_groups(numbers, groups, folder)
        with torch.no_grad():
            for name, parameter in parameters.items():
                if is_share(parameter):
                    own(parameter).copy_(file.get_slice(name)[own_rows(parameter)])
                else:
                    parameter.copy_(file.get_tensor(name))
    if optimizer is not None:
        with _opened(safe_open, standing / OPTIMIZER) as file:
            _put_together(optimizer, parameters, numbers, file, folder)
    return state


def checkpoint_bytes(network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, int]:
    """An estimate of what a checkpoint takes on the disk: the weights, and the optimiser's state, in bytes.

    Before the first step the optimiser has no state; what it will have is told by its kind.
    """
    parameters = list(_trained(network).values())
    weights = sum(p.numel() * p.element_size() for p in parameters)
    if optimizer.state:
        there = sum(t.numel() * t.element_size() for s in optimizer.state.values() for t in s.values() if _is_tensor(t))
        return weights, there
    settings = optimizer.param_groups[0]
    if "scale_parameter" in settings:  # Adafactor: a row and a column for each matrix, and the mean if asked for
        moments = sum(4 * _factored(p.shape) for p in parameters)
        if settings.get("beta1") is not None:
            moments += sum(4 * p.numel() for p in parameters)
        return weights, moments
    return weights, 2 * weights


# --- the folder as a whole ----------------------------------------------------------------------------------------


def _hidden(folder: Path, kind: str) -> Path:
    return folder.with_name(f".{folder.name}.{kind}")


def _put_in_place(fresh: Path, folder: Path) -> None:
    """Rename; where one stands already there is a moment between two renames that `_standing` sees through."""
    old = _hidden(folder, "old")
    try:
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
        os.rename(fresh, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Renamed first: a folder half deleted must not look like a checkpoint."""
    doomed = _hidden(folder, "gone")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(folder, doomed)
    shutil.rmtree(doomed)


def _standing(folder: Path) -> Path | None:
    """Where the checkpoint lies: in its place, or, after a kill between two renames, whole beside it."""
    if (folder / MANIFEST).is_file():
        return folder
    for place in (_hidden(folder, "new"), _hidden(folder, "old")):
        with contextlib.suppress(OutputError):
            _read_manifest(place)
            return place
    return None


def _tidy(output: Path) -> None:
    """Finish or clean away what a killed run left over."""
    left = {path: match for path in output.iterdir() if (match := _HIDDEN.fullmatch(path.name))}
    for name in {match[1] for match in left.values()}:
        folder = output / name
        standing = _standing(folder)
        if standing is not None and standing != folder:
            shutil.rmtree(folder, ignore_errors=True)  # without a manifest it is nothing
            os.rename(standing, folder)
    for path in left:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _writing(where: Path, what: str) -> Iterator[None]:
    """Failures of the disk as one clear error."""
    try:
        yield
    except ObverseError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else _error_number(error)
        if number is None and not isinstance(error, OSError):
            raise
        if number in _FULL:
            raise OutputError(
                f"the disk is full: {what}; what was there before is untouched",
                where=str(where),
                mend="Free some space and run again: --resume goes on from the last checkpoint.",
            ) from None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise OutputError(
            f"{what}: {reason}", where=str(where), mend="Mend that, or name a folder that you may write to."
        ) from None


def _error_number(error: Exception) -> int | None:
    """safetensors tells the system's errors in words: `I/O error: No space left on device (os error 28)`."""
    match = re.search(r"\(os error (\d+)\)", str(error))
    return int(match[1]) if match else None


# --- files --------------------------------------------------------------------------------------------------------


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(dict(tensors), path)
    _sync(path)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DamagedCheckpoint(f"{path.name} cannot be read: {error.strerror}", where=str(path.parent)) from None
    except (ValueError, RecursionError):
        raise DamagedCheckpoint(f"{path.name} is damaged", where=str(path.parent)) from None


def _read_manifest(folder: Path) -> dict[str, Any]:
    raw = _read_json(folder / MANIFEST)
    if isinstance(raw, dict) and raw.get("obverse_checkpoint", VERSION) != VERSION:
        raise OutputError(
            f"is in version {raw['obverse_checkpoint']!r}, not {VERSION}, of its format",
            where=str(folder / MANIFEST),
            mend="Use the version of Obverse that wrote it.",
        )
    parts = ("state", "fingerprint", "files")
    if not isinstance(raw, dict) or not all(isinstance(raw.get(part), dict) for part in parts):
        raise DamagedCheckpoint(f"{MANIFEST} is damaged", where=str(folder))
    return raw


def _verify(folder: Path, files: Mapping[str, Any]) -> None:
    for name in {WEIGHTS, *files}:
        path, facts = folder / name, files.get(name)
        if not isinstance(facts, dict) or Path(name).name != name:
            raise DamagedCheckpoint(f"{MANIFEST} is damaged", where=str(folder))
        if not path.is_file():
            raise DamagedCheckpoint(f"{name} is missing", where=str(folder))
        size = path.stat().st_size
        if size != facts.get("bytes"):
            raise DamagedCheckpoint(f"{name} has {size:,} bytes of {facts.get('bytes'):,}", where=str(folder))
        if _checksum(path) != facts.get("crc32"):
            raise DamagedCheckpoint(f"{name} is damaged: its checksum differs", where=str(folder))


def _state(raw: Mapping[str, Any], folder: Path) -> TrainingState:
    def whole(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0

    def number(value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    checks: dict[str, Callable[[Any], bool]] = {
        "step": whole,
        "best_score": lambda v: v is None or number(v),
        "best_step": lambda v: v is None or whole(v),
        "evaluations_without_gain": whole,
        "draws_seen": whole,
        "tokens_seen": whole,
        "loss_history": lambda v: isinstance(v, list) and all(number(x) for x in v),
    }
    wrong = [name for name, holds in checks.items() if name not in raw or not holds(raw[name])]
    if wrong or set(raw) != set(checks):
        named = ", ".join(wrong) or ", ".join(sorted(set(raw) - set(checks)))
        raise DamagedCheckpoint(f"{MANIFEST} is damaged: state {named}", where=str(folder))
    return TrainingState(**{**raw, "loss_history": tuple(raw["loss_history"])})


@contextlib.contextmanager
def _opened(opener: Any, path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError

    try:
        with opener(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise DamagedCheckpoint(f"{path.name} cannot be read: {error}", where=str(path.parent)) from None


# --- parameters and the optimiser's state -------------------------------------------------------------------------


def _trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that take a gradient; one that stands under several names has the first."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def _distinct(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors, no two of them in the same memory."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        whole = tensor.detach().contiguous()
        place = whole.untyped_storage().data_ptr()
        out[name] = whole.clone() if place in seen else whole
        seen.add(place)
    return out


def _placed(value: Tensor, like: Tensor) -> Tensor:
    """The value where the parameter lies, divided as it is if it has its shape; its number type stays."""
    if is_share(like) and value.shape == like.shape:
        return divided_like(value, like)
    return value.to(like.device, copy=True)


def _named_groups(optimizer: torch.optim.Optimizer, network: nn.Module, *, where: str) -> list[list[str]]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    try:
        return [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    except KeyError:
        raise OutputError(
            "the optimiser steps parameters that are not the network's",
            where=where,
            mend="Make the optimiser from the parameters of the network that is saved.",
        ) from None


def _taken_apart(
    optimizer: torch.optim.Optimizer, network: nn.Module, *, where: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's tensors, named `PARAMETER/KEY`, and everything else as JSON that refers to them."""
    tensors: dict[str, Tensor] = {}

    def encoded(value: Any, key: str) -> Any:
        if _is_tensor(value):
            tensors[key] = value
            return {"tensor": key}
        if isinstance(value, (tuple, list)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [encoded(part, f"{key}/{i}") for i, part in enumerate(value)]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise OutputError(
            f"the optimiser keeps a {type(value).__name__} ({key}), which a checkpoint cannot hold",
            where=where,
            mend="Use adamw or adafactor.",
        )

    groups, states = [], {}
    named = _named_groups(optimizer, network, where=where)
    for g, (group, names) in enumerate(zip(optimizer.param_groups, named, strict=True)):
        settings = {key: encoded(value, f"group {g}/{key}") for key, value in group.items() if key != "params"}
        groups.append({"parameters": names, "settings": settings})
        for name, parameter in zip(names, group["params"], strict=True):
            if parameter in optimizer.state:
                kept = optimizer.state[parameter]
                states[name] = {key: encoded(value, f"{name}/{key}") for key, value in kept.items()}
    return tensors, {"groups": groups, "state": states}


def _check_groups(numbers: Any, groups: Sequence[Sequence[str]], folder: Path) -> None:
    try:
        stored = [list(group["parameters"]) for group in numbers["groups"]]
        sound = isinstance(numbers["state"], dict)
    except (TypeError, KeyError):
        sound = False
    if not sound:
        raise DamagedCheckpoint(f"{OPTIMIZER_NUMBERS} is damaged", where=str(folder))
    if stored != [list(group) for group in groups]:
        raise OutputError(
            "the checkpoint belongs to an optimiser with other groups of parameters",
            where=str(folder),
            mend="Go on with the recipe that the run was started with.",
        )


def _put_together(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], numbers: Any, file: Any, folder: Path
) -> None:
    """Settings and state back into the optimiser.

    `Optimizer.load_state_dict` would cast each tensor to its parameter's number type, and so lose half of Adafactor's
    statistics where the parameters are bfloat16.
    """

    def decoded(value: Any, place: Callable[[Tensor], Tensor]) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "tensor":
            return place(file.get_tensor(content))
        parts = [decoded(part, place) for part in content]
        return tuple(parts) if kind == "tuple" else parts

    try:
        settings = [
            {key: decoded(value, _as_it_is) for key, value in group["settings"].items()} for group in numbers["groups"]
        ]
        states: dict[Tensor, dict[str, Any]] = {}
        for stored, group in zip(numbers["groups"], settings, strict=True):
            # A step counter stays in main memory, where the optimiser reads it, unless its kernels count on the device.
            counted_there = bool(group.get("capturable") or group.get("fused"))
            for name in stored["parameters"]:
                if name in numbers["state"]:
                    beside = partial(_placed, like=parameters[name])
                    states[parameters[name]] = {
                        key: decoded(value, _as_it_is if key == "step" and not counted_there else beside)
                        for key, value in numbers["state"][name].items()
                    }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DamagedCheckpoint(f"{OPTIMIZER_NUMBERS} is damaged", where=str(folder)) from None
    for group, stored_settings in zip(optimizer.param_groups, settings, strict=True):
        group.update(stored_settings)
    optimizer.state.clear()
    optimizer.state.update(states)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor.clone()  # what safetensors gives is a view of the file, which will be deleted one day


def _check_shapes(file: Any, parameters: Mapping[str, Tensor], folder: Path) -> None:
    there = {name: (tuple(s.get_shape()), s.get_dtype()) for name in file.keys() if (s := file.get_slice(name))}  # noqa: SIM118
    here = {name: (tuple(p.shape), _NUMBER_TYPES.get(p.dtype, str(p.dtype))) for name, p in parameters.items()}

    def shown(side: Mapping[str, tuple[tuple[int, ...], str]], name: str) -> str:
        return "nothing" if name not in side else f"{'x'.join(map(str, side[name][0])) or 'a number'} {side[name][1]}"

    differences = [
        f"{name}: {shown(there, name)} there, {shown(here, name)} here"
        for name in dict.fromkeys([*here, *there])
        if here.get(name) != there.get(name)
    ]
    if differences:
        raise OutputError(
            "\n".join(
                [
                    "the checkpoint belongs to another model, or to one trained in other parts",
                    *_some(differences, each="  "),
                ]
            ),
            where=str(folder),
            mend="Go on with the recipe that the run was started with.",
        )


_NUMBER_TYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
}


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _factored(shape: Sequence[int]) -> int:
    if len(shape) < 2:
        return math.prod(shape)
    return math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1]


# --- settings -----------------------------------------------------------------------------------------------------


def _as_json(value: Any) -> Any:
    """As it would be read back: lists for tuples, texts for keys."""
    return json.loads(json.dumps(dict(value)))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and (value or not prefix):
        for key, part in value.items():
            yield from _flat(part, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        for i, part in enumerate(value):
            yield from _flat(part, f"{prefix}[{i}]")
    else:
        yield prefix, value


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key], ensure_ascii=False, sort_keys=True) if key in settings else "nothing"


def _some(lines: Sequence[str], *, each: str) -> list[str]:
    """The first few lines, and how many more there are."""
    kept = [each + line for line in lines[:_NAMED]]
    return kept if len(lines) <= _NAMED else [*kept, f"{each}and {len(lines) - _NAMED} more"]


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
