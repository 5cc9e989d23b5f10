"""What is measured of a case, each in a process of its own: times, memory, growth. Everything here needs torch."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from obverse.errors import ObverseError
from obverse.models.base import LanguageModel
from obverse.queries import Query
from scoring_speed.cases import (
    CASES,
    HARNESS,
    TOGETHER,
    WAYS,
    Case,
    Request,
    Words,
    made_up,
    requests,
)
from scoring_speed.models import build_network, language_model, load_tokenizer, train_tokenizer
from scoring_speed.ways import AUTO, Batch, Own, Way, batches_to_try, harness_is_here, make_way
from scoring_speed.work import cube_rate, least_work, matrix_rates

Found = dict[str, Any]
"""Plain data, as it goes into the JSON file."""

CUBE = 2048
TUNING = 4
"""Instances on which batch sizes are tried, and of which the memory of slow ways is measured."""
SLOWER = 1.1
"""Larger batches are not tried where one takes so many times as long as the best: on a processor none gets better."""
HALVES = 1
"""Rounds in which half of the instances are timed too, to see that a slow way is linear."""
LOGITS_SHARE = 2
"""A batch is not tried where its logits, twice over, would take more than one part in so many of the free memory."""


def prepare(settings: Found) -> Found:
    """Tokenizers made, so that no later process has to."""
    folder = Path(settings["folder"])
    began = time.perf_counter()
    for family, size in settings["models"]:
        train_tokenizer(family, size, folder)
    return {"seconds": time.perf_counter() - began}


def time_case(settings: Found) -> Found:
    """Seconds of every way in every round, the largest difference of their answers, and the work of the case."""
    bench = _Bench(settings)
    case, few, many = bench.case, settings["few"], settings["many"]
    asked = bench.requests(many)
    digest = bench.fresh().digest()
    names = [name for name in WAYS if name != HARNESS or harness_is_here()]
    batches, tuning = _tuned(bench, names, asked[:TUNING], small=settings["small"])
    ways = {name: bench.way(name, batches[name]) for name in names}
    parts = {"half": _flat(asked[: few // 2]), "few": _flat(asked[:few]), "many": _flat(asked)}
    answers: dict[str, list[float]] = {}
    whole = ways[TOGETHER].answer(parts["many"])
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for number in range(min(settings["rounds"], case.rounds)):
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            for part in ("few", "many") if name == TOGETHER else ("half", "few"):
                if part == "half" and number >= HALVES:
                    continue
                taken, found = bench.timed(ways[name], parts[part])
                seconds[name].setdefault(part, []).append(taken)
                if part == "few":
                    answers[name] = found
    account = _account(ways[TOGETHER])
    if bench.fresh().digest() != digest:
        raise ObverseError("one of the ways has changed the network, so the others were not asked the same")
    model: Any = bench.fresh()
    queries = [Query(given, said) for given, said in parts["many"]]
    rows = model.encode_all(queries)
    return {
        "case": case.name,
        "family": settings["family"],
        "size": settings["size"],
        "few": few,
        "many": many,
        "requests_an_instance": len(asked[0]),
        "tokens": {part: sum(len(given) + len(said) for given, said in rows[: len(some)]) for part, some in
                   parts.items()},
        "batches": batches,
        "tuning": tuning,
        "seconds": seconds,
        "differences": {
            name: _difference(found, whole[: len(found)], [len(said) for _, said in rows[: len(found)]])
            for name, found in answers.items()
        },
        "spread": statistics.pstdev(whole[: len(asked[0])]),
        "account": account,
        **_possible(bench, rows, small=settings["small"]),
        "parameters": sum(p.numel() for p in bench.network.parameters()),
        "vocabulary": bench.network.get_output_embeddings().weight.shape[0],
        "threads": torch.get_num_threads(),
        "device": bench.device.type,
        "gpu": torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else None,
        "number_type": str(bench.network.dtype).removeprefix("torch."),
    }  # fmt: skip


def time_alone(settings: Found) -> Found:
    """Seconds of one way, in a process that knows no other; of Obverse also the work and what the machine can do."""
    bench = _Bench(settings)
    asked = _flat(bench.requests(settings["instances"]))
    way = bench.way(settings["way"], settings["batch"])
    way.answer(asked[:2])  # libraries load their parts at first use
    found: Found = {"seconds": bench.seconds(way, asked)}
    if settings["way"] == TOGETHER:
        model: Any = bench.fresh()
        rows = model.encode_all([Query(given, said) for given, said in asked])
        found |= _possible(bench, rows, small=settings["small"]) | {"account": _account(way)}
    return found


def memory_case(settings: Found) -> Found:
    """The peak of one way above what was there with the model loaded, and the positions that it runs."""
    bench = _Bench(settings)
    # A batch of a slow way is as large with few instances as with many.
    instances = settings["many"] if settings["way"] == TOGETHER else min(settings["few"], TUNING)
    asked = _flat(bench.requests(instances))
    way = bench.way(settings["way"], settings["batch"])
    way.answer(asked[:1])  # libraries load their parts at first use
    way.prepare()
    with bench.counted() as counts:
        peak = bench.peak(lambda: way.answer(asked))
    return {"bytes": peak, "instances": instances, **counts}


def growth(settings: Found) -> Found:
    """Seconds for more and more requests of a network that costs next to nothing."""
    bench = _Bench(settings)
    way = bench.way(TOGETHER, 1)
    words = made_up(100)
    way.answer([(words[0], f" {words[1]}")])
    rows = []
    for size in settings["sizes"]:
        # Four options after each prompt; no two prompts are the same.
        prompts = [" ".join(words[i // 100**k % 100] for k in range(4)) for i in range(size // 4)]
        asked = [(prompt, f" {option}") for prompt in prompts for option in words[:4]]
        rows.append({"queries": size, "seconds": bench.seconds(way, asked), **_account(way)})
    return {"family": settings["family"], "rows": rows, "threads": torch.get_num_threads()}


class _Bench:
    """A model with seeded weights, and the texts of a case."""

    def __init__(self, settings: Found) -> None:
        # The same for all ways: numbers too small to matter would be slow in some and not in others.
        torch.set_flush_denormal(True)
        self.case: Case = next(case for case in CASES if case.name == settings["case"])
        family, size = settings["family"], settings["size"]
        self.tokenizer = load_tokenizer(family, size, Path(settings["folder"]))
        self.network = build_network(family, size, settings["device"])
        self.device: torch.device = self.network.device

    def requests(self, instances: int) -> list[list[Request]]:
        words = Words(lambda texts: [len(ids) for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"]])
        return requests(self.case, words, instances)

    def way(self, name: str, batch: Batch) -> Way:
        return make_way(name, self.network, self.tokenizer, self.fresh, batch=batch)

    def fresh(self) -> LanguageModel:
        """Obverse's model of the network, with nothing remembered."""
        return language_model(self.network, self.tokenizer)

    def seconds(self, way: Way, asked: Sequence[Request]) -> float:
        return self.timed(way, asked)[0]

    def timed(self, way: Way, asked: Sequence[Request]) -> tuple[float, list[float]]:
        """Seconds, and what was answered."""
        way.prepare()
        way.free()
        self._settle()
        began = time.perf_counter()
        found = way.answer(asked)
        self._settle()
        return time.perf_counter() - began - way.free(), found

    @contextlib.contextmanager
    def counted(self) -> Iterator[Found]:
        """Counts the positions that go through the network and the head meanwhile."""
        counts = {"positions": 0, "head": 0}

        def read(_: Any, arguments: Any, named: Any) -> None:
            counts["positions"] += (arguments[0] if arguments else named["input"]).numel()

        def headed(_: Any, arguments: Any) -> None:
            counts["head"] += arguments[0].numel() // arguments[0].shape[-1]

        network = self.network
        sides = (network.encoder, network.decoder) if network.config.is_encoder_decoder else (network,)
        tables = list(dict.fromkeys(side.get_input_embeddings() for side in sides))
        hooks = [table.register_forward_pre_hook(read, with_kwargs=True) for table in tables]
        hooks.append(network.get_output_embeddings().register_forward_pre_hook(headed))
        try:
            yield counts
        finally:
            for hook in hooks:
                hook.remove()

    def peak(self, act: Callable[[], object]) -> int:
        """The most bytes that were held meanwhile, less those before."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            act()
            return torch.cuda.max_memory_allocated(self.device) - before
        with contextlib.suppress(OSError, AttributeError):  # other libraries than glibc have no such function
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        import psutil

        with contextlib.suppress(OSError):  # Linux forgets the peak of building the model
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = psutil.Process().memory_info().rss
        act()
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return max(0, most - before)

    def _settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _tuned(
    bench: _Bench, names: list[str], asked: list[list[Request]], *, small: bool
) -> tuple[dict[str, Batch], Found]:
    """For each way the fastest of its batch sizes, and the seconds of all."""
    flat = _flat(asked)
    vocabulary = bench.network.get_output_embeddings().weight.shape[0]
    model: Any = bench.fresh()
    longest = max(sum(map(len, model.encode(Query(given, said)))) for given, said in flat)
    best: dict[str, Batch] = {}
    seconds: Found = {}
    for name in names:
        tried: dict[Batch, float | None] = {}
        for batch in batches_to_try(name, few=small):
            rows = 64 if batch == AUTO else int(batch)  # `auto` begins with 64, which a processor never refuses
            tried[batch] = None
            if rows == 1 or 2 * 4 * rows * longest * vocabulary * LOGITS_SHARE < _free_bytes(bench.device):
                way = bench.way(name, batch)
                if batch != AUTO:  # whose search for a size warms up enough
                    way.answer(flat[:2])
                tried[batch] = bench.seconds(way, flat)
                if batch != AUTO and tried[batch] > SLOWER * min(t for t in tried.values() if t is not None):
                    break
        done = {batch: taken for batch, taken in tried.items() if taken is not None}
        best[name] = min(done, key=lambda batch: done[batch]) if done else 1
        seconds[name] = {str(batch): taken for batch, taken in tried.items()}
    return best, seconds


def _possible(bench: _Bench, rows: Sequence[Any], *, small: bool) -> Found:
    """The least work of rows of token ids, and the rates of the matrix products that it consists of."""
    work, device = least_work(bench.network, rows), bench.device
    width, flop = (256, 2e7) if small else (CUBE, 4e9 if device.type == "cpu" else 4e12)
    return {
        "work": {
            "positions": work.positions,
            "head": work.head,
            "attention": work.attention,
            "matrices": [(n, m, flop) for (n, m), flop in sorted(work.matrices.items())],
        },
        "rates": matrix_rates(list(work.matrices), device, rows=1024 if device.type == "cpu" else 8192, flop=flop),
        "cube": {"width": width, "rate": cube_rate(device, width=width, flop=flop)},
    }


def _account(way: Way) -> Found:
    """What Obverse says of its last run: tokens asked and computed, and the part of the time spent on planning."""
    assert isinstance(way, Own)
    work = way.model.work
    return {"asked": work.asked, "computed": work.computed, "planning": work.planning / work.seconds}


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return int(psutil.virtual_memory().available)


def _difference(found: list[float], own: list[float], tokens: list[int]) -> Found:
    """The largest difference of two lists of answers, in all and a token."""
    gaps = [abs(a - b) for a, b in zip(found, own, strict=True)]
    return {"nats": _most(gaps), "nats_a_token": _most([gap / n for gap, n in zip(gaps, tokens, strict=True)])}


def _most(values: list[float]) -> float:
    # The maximum of a list with a NaN in it depends on where it stands.
    return max(values) if all(value == value for value in values) else float("inf")


def _flat(asked: list[list[Request]]) -> list[Request]:
    return [request for some in asked for request in some]
