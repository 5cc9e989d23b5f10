"""The one training loop: draws, pairs, micro-batches, one step; measured, saved and resumable.

Step s takes draws s*E to (s+1)*E - 1 of the mixture, divided among the processes by their number. Whatever is random
(negatives, dropout, which draws see the prior) comes from streams named by seed, step and draw, so that a resumed run
needs no random state, and any number of processes trains on the same pairs. Each term of the loss is divided by how
many rows, tokens or groups the whole step has of it, counted before the first backward pass: how the step is cut into
micro-batches and processes changes no number beyond rounding. Nor does it where each process holds a share of the
weights; there, all of them make equally many passes in a step, because each pass is a meeting.
"""

from __future__ import annotations

import contextlib
import math
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from obverse.errors import ObverseError, RecipeError
from obverse.models.precision import choose_dtype
from obverse.objectives.objectives import Objective, Pair
from obverse.seeds import stream
from obverse.tasks.mixture import Draw, Mixture
from obverse.training.checkpoints import Keeper, TrainingState
from obverse.training.network import SPARE, PairLogProbs, PairNetwork, Row
from obverse.training.optimizers import OptimizerSettings, build_optimizer, is_amount, is_count, rate_factor
from obverse.training.processes import Processes, join_processes
from obverse.training.sharding import is_parting, is_sharded, ready_to_score, shard, views_allowed, whole
from obverse.training.watch import Watcher

PRECISIONS = ("auto", "fp32", "bf16")

# The loss has run away when each of the last _STREAK steps after the warm-up lies over _TIMES the median of the steps
# before them and over that median by _NATS; the median is of at most _WINDOW steps and at least _LEAST.
_STREAK, _TIMES, _NATS, _WINDOW, _LEAST = 5, 4.0, 1.0, 100, 20

_TIME_UP = "its time is up"
_NAMED = 16  # examples told in one message


class Diverged(ObverseError):
    """The loss is no longer a number, or has run away."""


class Stopped(ObverseError):
    """Training was asked to stop before its end; what was reached is saved."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What the loop does, besides what it trains on.

    Attributes:
        steps: optimizer steps in all.
        examples_per_step: draws of the mixture a step, all processes together.
        optimizer: see `OptimizerSettings`.
        token_budget: the largest padded area of a micro-batch, in tokens; memory depends on it, no number does.
        seed: of negatives, dropout and the draws that see the prior. The mixture has its own.
        clip: the largest norm of the gradient; None leaves it as it is.
        save_every, evaluate_every: steps between; both are also done after the last step.
        keep_last: how many of the newest checkpoints stay.
        patience: stop after so many evaluations in a row without a better score; None never does.
        stop_after_s: save and return after so many seconds of this call; None never does.
        precision: `bf16` keeps weights in fp32 and multiplies in bf16; `auto` is bf16 on accelerators that have it.
        prior_share: the share of draws that see the prior, so that each direction also learns to stand alone.
        sharded: divide weights, gradients and the optimizer's state among the processes; a single one holds them whole.

    Raises:
        RecipeError: a value is out of its range; all of them are named.
    """

    steps: int
    examples_per_step: int
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    token_budget: int = 4096
    seed: int = 0
    clip: float | None = None
    save_every: int = 100
    evaluate_every: int = 250
    keep_last: int = 2
    patience: int | None = None
    stop_after_s: float | None = None
    precision: str = "auto"
    prior_share: float = 0.5
    sharded: bool = False

    def __post_init__(self) -> None:
        faults = []
        for key in ("steps", "examples_per_step", "token_budget", "save_every", "evaluate_every", "keep_last"):
            if not is_count(getattr(self, key), least=1):
                faults.append(f"{key} is {getattr(self, key)!r} and must be a whole number from 1 up")
        if self.patience is not None and not is_count(self.patience, least=1):
            faults.append(f"patience is {self.patience!r} and must be a whole number from 1 up")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            faults.append(f"seed is {self.seed!r} and must be a whole number")
        if self.clip is not None and not (is_amount(self.clip) and self.clip):
            faults.append(f"clip is {self.clip!r} and must be a number above 0")
        if self.stop_after_s is not None and not is_amount(self.stop_after_s):
            faults.append(f"stop_after_s is {self.stop_after_s!r} and must be a number from 0 up")
        if self.precision not in PRECISIONS:
            faults.append(f"precision is {self.precision!r} and must be one of {', '.join(PRECISIONS)}")
        if not (is_amount(self.prior_share) and self.prior_share <= 1):
            faults.append(f"prior_share is {self.prior_share!r} and must be a number from 0 to 1")
        if faults:
            raise RecipeError("; ".join(faults), where="training settings")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Held-out scores by name, and the one number that chooses the best checkpoint (higher is better)."""

    scores: Mapping[str, float]
    chosen: float


Prior = Callable[[Sequence[Draw]], Sequence[Sequence[float]]]
"""What is known of each option of each draw beforehand, in nats; see `Objective.sums`."""


def train(
    network: PairNetwork,
    mixture: Mixture,
    objectives: Sequence[Objective],
    settings: TrainingSettings,
    *,
    output: Path,
    watcher: Watcher,
    fingerprint: Mapping[str, object],
    evaluate: Callable[[], Evaluation] | None = None,
    prior: Prior | None = None,
    resume: bool = False,
    device: torch.device | None = None,
) -> TrainingState:
    """Run the loop to its end, to early stopping, or until its time is up.

    The network is left with the weights of the last step; those of the best evaluation lie in `output`. It stays
    divided where it was: `ready_to_score` then stands round asking it, and `save_pretrained` gathers it.

    Args:
        output: the run's folder; receives checkpoints.
        fingerprint: what of the recipe changes numbers; a run is only resumed under the same.
        evaluate: called in the main process with the network in evaluation mode; in all of them where the network is
            divided, and each must ask it the same.
        resume: go on from the folder's last checkpoint, if it has one.
        device: where to compute; None for where the network lies. One that is to be divided may lie in main memory.

    Raises:
        RecipeError: objectives or settings that do not fit the network; it cannot be divided.
        Diverged: the loss is no number or has run away; the checkpoint from before is kept.
        Stopped: an interrupt or SIGTERM came; a checkpoint was written.
        OutputError: the folder holds another run or cannot be written.
    """
    _check(network, objectives)
    with denormals_flushed(), _Interruptions() as interruptions, contextlib.ExitStack() as stack:
        processes = join_processes(device or next(network.parameters()).device)
        told = watcher if processes.is_main else Watcher()
        if settings.sharded and processes.count > 1:
            stack.enter_context(views_allowed())
            shard(network, processes, spare=SPARE, in_bf16=_multiplies_in_bf16(settings, processes.device))
        else:
            if settings.sharded:
                told.note("sharded: this is the only process, so it holds the whole model")
            _place(network, processes.device, settings)
            processes.share_weights(network)
        keeper = Keeper(
            output,
            keep_last=settings.keep_last,
            fingerprint=fingerprint,
            resume=resume,
            writes=processes.is_main,
            note=told.note,
        )
        processes.main_first(stack.enter_context, keeper)
        stepper = _Stepper(network, mixture, tuple(objectives), settings, processes, prior)
        return _go(stepper, settings, keeper, told, evaluate, interruptions)


def _go(
    stepper: _Stepper,
    settings: TrainingSettings,
    keeper: Keeper,
    watcher: Watcher,
    evaluate: Callable[[], Evaluation] | None,
    interruptions: _Interruptions,
) -> TrainingState:
    """Steps, evaluations and checkpoints until the end."""
    network, optimizer, processes = stepper.network, stepper.optimizer, stepper.processes
    began = time.monotonic()
    state = processes.together(keeper.begin, network, optimizer)
    saved = state.step
    reason = "an error"
    try:
        processes.together(watcher.began, settings, settings.steps, state.step)
        end = _end(settings, state)
        while end is None:
            step_began = time.monotonic()
            taken = stepper.step(state)
            seconds = time.monotonic() - step_began
            processes.together(
                watcher.step,
                state.step,
                taken.parts,
                examples=settings.examples_per_step,
                tokens=taken.tokens,
                seconds=seconds,
                norm=taken.norm,
                rate=taken.rate,
                cut=taken.cut,
            )
            if evaluate is not None and (state.step % settings.evaluate_every == 0 or state.step == settings.steps):
                _evaluate(stepper, state, evaluate, keeper, watcher)
            end = _end(settings, state)
            stop = _stop(processes, interruptions, settings, time.monotonic() - began)
            # A loss that may be running away is not saved yet: the checkpoint from before is what will be wanted.
            due = state.step - saved >= settings.save_every or state.step % settings.save_every == 0
            if end or stop or (due and not _is_over(state.loss_history)):
                folder = processes.together(keeper.save_last, network, optimizer, state)
                saved = state.step
                processes.together(watcher.saved, saved, folder)
            if stop and not end:
                reason = stop
                if stop == _TIME_UP:
                    return state
                raise _stopped(stop, keeper, saved)
        reason = end
        return state
    except KeyboardInterrupt:
        reason = "interrupted twice"
        raise _stopped(reason, keeper, saved) from None
    except Stopped:
        raise
    except ObverseError as error:
        reason = error.what
        raise
    finally:
        watcher.ended(reason)


def _end(settings: TrainingSettings, state: TrainingState) -> str | None:
    """Why nothing is left to do; None while something is."""
    if state.step >= settings.steps:
        return "the last step is done"
    if settings.patience is not None and state.evaluations_without_gain >= settings.patience:
        return f"no gain in {settings.patience} evaluations in a row"
    return None


def _evaluate(
    stepper: _Stepper, state: TrainingState, evaluate: Callable[[], Evaluation], keeper: Keeper, watcher: Watcher
) -> None:
    """Score, keep the weights if they are the best so far, and count the evaluations since the best."""
    network, processes = stepper.network, stepper.processes
    network.eval()
    if is_sharded(network):
        with ready_to_score(network):
            found = processes.gather(processes.together(evaluate))[0]
    else:
        found = processes.on_main(evaluate)
    processes.together(watcher.evaluated, state.step, found.scores, found.chosen)
    if state.best_score is None or found.chosen > state.best_score:
        state.best_score, state.best_step, state.evaluations_without_gain = found.chosen, state.step, 0
        processes.together(keeper.save_best, network, state)
    else:
        state.evaluations_without_gain += 1


def _stop(
    processes: Processes, interruptions: _Interruptions, settings: TrainingSettings, elapsed_s: float
) -> str | None:
    """Why to stop here, the same in every process; None to go on."""
    time_up = settings.stop_after_s is not None and elapsed_s >= settings.stop_after_s
    reasons = processes.gather(interruptions.asked or (_TIME_UP if time_up else None))
    return next((reason for reason in reasons if reason), None)


def _stopped(reason: str, keeper: Keeper, saved: int) -> Stopped:
    if not saved:
        return Stopped(f"stopped: {reason}; nothing was saved yet", where=str(keeper.output), mend="Start again.")
    return Stopped(
        f"stopped: {reason}; the checkpoint of step {saved:,} is saved",
        where=str(keeper.output),
        mend="The same command with --resume goes on from there.",
    )


@dataclass(frozen=True, slots=True)
class _Taken:
    """What one step was made of, all processes together; see `Watcher.step`."""

    parts: dict[str, float]
    tokens: int
    cut: int
    norm: float
    rate: float


class _Stepper:
    """Makes one step after the other."""

    def __init__(
        self,
        network: PairNetwork,
        mixture: Mixture,
        objectives: tuple[Objective, ...],
        settings: TrainingSettings,
        processes: Processes,
        prior: Prior | None,
    ) -> None:
        self.network = network
        self.processes = processes
        self.optimizer = build_optimizer(network.model, settings.optimizer)
        self._mixture = mixture
        self._objectives = objectives
        self._settings = settings
        self._prior = prior
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._bf16 = _multiplies_in_bf16(settings, processes.device)
        self._sharded = is_sharded(network)
        self._needs_sink = any(objective.needs_sink for objective in objectives)

    def step(self, state: TrainingState) -> _Taken:
        """One step on from `state`, which moves along."""
        settings, step = self._settings, state.step
        factor = rate_factor(settings.optimizer, step, settings.steps)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        rows, cut = self.processes.together(self._rows, step)
        tokens = sum(len(row.given) + len(row.said) for row in rows)
        batches = self.network.micro_batches(rows, token_budget=settings.token_budget) if rows else []
        told = self.processes.gather((self._counts(rows), tokens, cut, len(batches)))
        totals = [_added(counts[o] for counts, *_ in told) for o in range(len(self._objectives))]
        if self._sharded:
            # An error is not told to the others, who wait in the middle of a pass: this process has to end for that.
            spare = max(passes for *_, passes in told) - len(batches)
            mine = self._backward(step, batches, totals, spare=spare)
        else:
            mine = self.processes.together(self._backward, step, batches, totals)
        shares = _added(self.processes.gather(mine))
        names = [f"{o.name}/{term}" for o, total in zip(self._objectives, totals, strict=True) for term in total]
        parts = {name: shares[name] for name in names}  # in the same order at every step
        loss = math.fsum(parts.values())
        history = state.loss_history
        if step >= settings.optimizer.warmup_steps:
            history = (*history, loss)[-(_WINDOW + _STREAK) :]
        if not math.isfinite(loss):
            raise self._diverged(step, f"the loss is {loss} ({_shown(parts)})")
        if _has_run_away(history):
            raise self._diverged(
                step,
                f"the loss is {loss:.3f}, and {_STREAK} steps in a row were over {_bound(history):.3f} "
                f"({_TIMES:g} times its median before, and {_NATS:g} above)",
            )
        if not self._sharded:  # those of divided weights are added up in each backward pass
            self.processes.sum_gradients(self._trained)
        most = math.inf if settings.clip is None else settings.clip
        norm = float(whole({"norm": nn.utils.clip_grad_norm_(self._trained, most)})["norm"])
        if not math.isfinite(norm):
            raise self._diverged(step, f"the norm of the gradient is {norm}, at a loss of {loss:.3f}")
        self.optimizer.step()
        state.step += 1
        state.draws_seen += settings.examples_per_step
        state.tokens_seen += sum(tokens for _, tokens, *_ in told)
        state.loss_history = history
        rate = settings.optimizer.rate * factor
        return _Taken(parts, sum(tokens for _, tokens, *_ in told), sum(cut for _, _, cut, _ in told), norm, rate)

    def _rows(self, step: int) -> tuple[list[Row], int]:
        """Every objective's rows of this process's draws at `step`, and how many tokens the lengths took away."""
        settings, (number, count) = self._settings, (self.processes.number, self.processes.count)
        begin, end = step * settings.examples_per_step, (step + 1) * settings.examples_per_step
        places = range(begin + (number - begin) % count, end, count)
        draws = [self._mixture.draw(i) for i in places]
        known = self._known(places, draws)
        rows: list[Row] = []
        cut = 0
        for o, objective in enumerate(self._objectives):
            pairs: list[Pair] = []
            for i, draw in zip(places, draws, strict=True):
                fitted, lost = self.network.fit(draw, objective)
                cut += lost
                pairs += objective.pairs(fitted, i - begin, stream(settings.seed, "negatives", objective.name, i))
            made = self.network.rows(pairs, o)
            if known is not None:
                made = [replace(row, prior=known[row.group + begin][row.option]) for row in made]
            rows += made
        return rows, cut + sum(row.cut for row in rows)

    def _known(self, places: Sequence[int], draws: Sequence[Draw]) -> dict[int, Sequence[float]] | None:
        """Place of each draw -> what the prior knows of its options; zeros where the draw goes without."""
        if self._prior is None:
            return None
        known: dict[int, Sequence[float]] = {}
        for i, draw, nats in zip(places, draws, self._prior(draws), strict=True):
            sees = stream(self._settings.seed, "prior", i).random() < self._settings.prior_share
            known[i] = nats if sees else [0.0] * len(draw.options)
        return known

    def _counts(self, rows: Sequence[Row]) -> list[dict[str, float]]:
        """Each objective's denominators over these rows."""
        counts = []
        for o, objective in enumerate(self._objectives):
            own = [row for row in rows if row.objective == o]
            counts.append(
                objective.counts([r.gold for r in own], [len(r.said) for r in own], [r.group for r in own])
                if own
                else {}
            )
        return counts

    def _backward(
        self, step: int, batches: Sequence[list[Row]], totals: Sequence[Mapping[str, float]], *, spare: int = 0
    ) -> dict[str, float]:
        """Add this process's part of the gradient up; its part of each term, by `objective/term`.

        Args:
            spare: passes that count nothing, made after those of the micro-batches.
        """
        try:
            shares = self._accumulated(step, batches, totals)
            for _ in range(spare):
                self._pass([SPARE]).log_probs_NT.sum().mul(0.0).backward()  # type: ignore[no-untyped-call]
            return shares
        except torch.OutOfMemoryError:
            raise RecipeError(
                f"the memory of {self.processes.device} does not hold a micro-batch of step {step + 1:,}",
                where="token_budget",
                mend=f"Lower it (it is {self._settings.token_budget:,}), or turn on gradient_checkpointing.",
            ) from None
        except RuntimeError as error:
            if self._sharded and is_parting(error):
                raise ObverseError(
                    "another process ended in the middle of a step; what it says comes first",
                    where=f"step {step + 1:,}",
                ) from error
            raise

    def _pass(self, batch: Sequence[Row]) -> PairLogProbs:
        # Copies of weights in bf16 are not kept for a second use where the weights themselves are not kept, either.
        with torch.autocast(
            self.processes.device.type, dtype=torch.bfloat16, enabled=self._bf16, cache_enabled=not self._sharded
        ):
            answer: PairLogProbs = self.network(batch, sink=self._needs_sink)
        return answer

    def _accumulated(
        self, step: int, batches: Sequence[list[Row]], totals: Sequence[Mapping[str, float]]
    ) -> dict[str, float]:
        settings, device = self._settings, self.processes.device
        shares: dict[str, list[Tensor]] = {}
        for k, batch in enumerate(batches):
            # Dropout depends on these names alone, so a resumed run repeats it.
            torch.manual_seed(stream(settings.seed, "dropout", step, self.processes.number, k).getrandbits(63))
            answer = self._pass(batch)
            loss = torch.zeros((), device=device)
            for o, objective in enumerate(self._objectives):
                own = [n for n, row in enumerate(batch) if row.objective == o]
                if not own:
                    continue
                at = torch.tensor(own, device=device)
                sums = objective.sums(
                    answer.log_probs_NT[at],
                    None if answer.sink_log_probs_NT is None else answer.sink_log_probs_NT[at],
                    answer.mask_NT[at],
                    torch.tensor([batch[n].gold for n in own], device=device),
                    torch.tensor([batch[n].group for n in own], device=device),
                    None if self._prior is None else torch.tensor([batch[n].prior for n in own], device=device),
                )
                for term, value in sums.items():
                    if total := totals[o].get(term, 0.0):
                        part = value / total
                        loss = loss + part
                        shares.setdefault(f"{objective.name}/{term}", []).append(part.detach())
            if self._sharded and not loss.requires_grad:  # the others wait for its backward pass all the same
                loss = answer.log_probs_NT.sum() * 0.0
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        # One look at the device a step, for each look waits for it.
        return {name: math.fsum(torch.stack(values).tolist()) for name, values in shares.items()}

    def _diverged(self, step: int, what: str) -> Diverged:
        settings = self._settings
        begin = step * settings.examples_per_step
        draws = [self._mixture.draw(begin + i) for i in range(settings.examples_per_step)]
        named = ", ".join(f"{draw.task} {draw.example_id}" for draw in draws[:_NAMED])
        more = f" and {len(draws) - _NAMED} more" if len(draws) > _NAMED else ""
        return Diverged(
            f"{what}; no step was taken on it, and the checkpoints are from before",
            where=f"step {step + 1:,}",
            mend=f"Lower the rate (optimizer.rate), set clip, or warm up longer. The examples were: {named}{more}.",
        )


def _bound(history: Sequence[float]) -> float:
    """What the loss must not stay over, from the steps before the last few; infinite while they are too few."""
    before = history[:-_STREAK]
    if len(before) < _LEAST:
        return math.inf
    median = statistics.median(before)
    return max(_TIMES * median, median + _NATS)


def _is_over(history: Sequence[float]) -> bool:
    return bool(history) and history[-1] > _bound(history)


def _has_run_away(history: Sequence[float]) -> bool:
    bound = _bound(history)
    return len(history) > _STREAK and all(loss > bound for loss in history[-_STREAK:])


def _added(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sum of each entry, by name."""
    listed: dict[str, list[float]] = {}
    for mapping in parts:
        for name, value in mapping.items():
            listed.setdefault(name, []).append(value)
    return {name: math.fsum(values) for name, values in listed.items()}


def _shown(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in parts.items())


def _check(network: PairNetwork, objectives: Sequence[Objective]) -> None:
    if not objectives:
        raise RecipeError("there is no objective to train on", where="objectives")
    twice = [name for name, times in Counter(objective.name for objective in objectives).items() if times > 1]
    if twice:
        raise RecipeError(
            f"two objectives are called {twice[0]!r}",
            where="objectives",
            mend="Give each a name of its own: its negatives are drawn and its figures logged under it.",
        )
    wanting = [objective.name for objective in objectives if objective.needs_sink]
    if wanting and network.sink is None:
        raise RecipeError(
            f"{wanting[0]!r} trains the sink token, and the model's vocabulary has no <sink>",
            where="objectives",
            mend="Set its sink to 0, or add the token.",
        )


def _multiplies_in_bf16(settings: TrainingSettings, device: torch.device) -> bool:
    if settings.precision == "auto":
        return choose_dtype(device) == torch.bfloat16
    return settings.precision == "bf16"


def _place(network: PairNetwork, device: torch.device, settings: TrainingSettings) -> None:
    """To this process's device; trained weights in fp32, for steps smaller than bf16 can add would be lost."""
    if next(network.parameters()).device != device:
        network.to(device)
        network.language_model.device = device
    if not _multiplies_in_bf16(settings, device):
        network.float()
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


class _Interruptions:
    """Notes the first interrupt or SIGTERM for the loop to see; a second one interrupts at once."""

    def __init__(self) -> None:
        self.asked: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Interruptions:
        if threading.current_thread() is threading.main_thread():  # elsewhere there are none to take over
            for kind in (signal.SIGINT, signal.SIGTERM):
                self._before[kind] = signal.signal(kind, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            raise KeyboardInterrupt
        self.asked = "an interrupt came" if number == signal.SIGINT else "SIGTERM came"


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Numbers nearer to 0 than a normal float count as 0, and afterwards as before.

    The softmax of a confident model is full of them, and a processor multiplies them some ten times slower. Worker
    threads take the setting over from the thread that starts them, so who wants it everywhere sets it before any
    tensor is made.
    """
    smallest = sys.float_info.min
    already = smallest / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(already)
