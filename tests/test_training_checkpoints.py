"""Checkpoints: bit-exact, whole or not at all, kept, named when damaged, and never mixed with another run's."""

from __future__ import annotations

import errno
import gc
import json
import math
import os
import random
import re
import shutil
import signal
import socket
import time
from collections import namedtuple
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402
from transformers.optimization import Adafactor  # noqa: E402

import tiny  # noqa: E402
from obverse.errors import OutputError  # noqa: E402
from obverse.runs import disk  # noqa: E402
from obverse.training import checkpoints  # noqa: E402
from obverse.training.checkpoints import (  # noqa: E402
    DamagedCheckpoint,
    Keeper,
    TrainingState,
    check_output,
    checkpoint_bytes,
    differing,
    fingerprint_digest,
    load,
    save,
    step_folders,
)

RECIPE = {"seed": 7, "optimizer": {"name": "adamw", "rate": 5e-5}, "objectives": [{"direction": "flipped"}]}


class Network(nn.Module):
    """A model one level down, as in training."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def adamw(network, **changes):
    return torch.optim.AdamW(network.parameters(), lr=1e-3, **changes)


def adafactor(network, **changes):
    settings = {"lr": 1e-3, "scale_parameter": False, "relative_step": False, "warmup_init": False}
    return Adafactor(network.parameters(), **{**settings, **changes})


OPTIMIZERS = {
    "adamw": adamw,
    "adamw amsgrad": lambda network: adamw(network, amsgrad=True),
    "adamw fused": lambda network: adamw(network, fused=True),
    "adafactor": adafactor,
    "adafactor with a mean": lambda network: adafactor(network, beta1=0.9),
    "adafactor relative": lambda network: adafactor(network, lr=None, relative_step=True, scale_parameter=True),
    "two groups": lambda network: torch.optim.AdamW(
        [
            {"params": list(network.model.encoder.parameters()), "lr": 1e-4},
            {"params": [p for n, p in network.model.named_parameters() if n.startswith("decoder.block")]},
        ],
        lr=1e-3,
    ),
}


def t5(dtype=torch.float32):
    return Network(tiny.t5().to(dtype))


def move(network, optimizer, steps):
    """Plain training steps, each of which depends on its number alone."""
    for step in steps:
        ids = torch.randint(4, 14, (2, 6), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        network.model(input_ids=ids, labels=ids.flip(1)).loss.backward()
        optimizer.step()


def weights_of(network):
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def same(a, b):
    """Equal bit for bit: tensors with their types, numbers with theirs."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


class Small(nn.Module):
    """Two numbers: a network whose checkpoints are quick to write."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), float(value)))


def small(value=0.0):
    network = Small(value)
    optimizer = adamw(network)
    network.weight.sum().backward()
    optimizer.step()
    with torch.no_grad():
        network.weight.fill_(value)
    return network, optimizer


def keeper_with(output, *steps, **settings):
    """A run's folder with checkpoints of these steps, whose weights are the step."""
    with Keeper(output, fingerprint=RECIPE, **settings) as keeper:
        keeper.begin(*small())
        for step in steps:
            keeper.save_last(*small(float(step)), TrainingState(step=step))


# --- bit for bit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, kind):
    network = t5()
    optimizer = OPTIMIZERS[kind](network)
    move(network, optimizer, range(3))
    save(tmp_path / "here", network, optimizer, TrainingState(step=3))
    move(network, optimizer, range(3, 6))

    again = Network(tiny.t5(seed=5))
    resumed = OPTIMIZERS[kind](again)
    assert load(tmp_path / "here", again, resumed).step == 3
    move(again, resumed, range(3, 6))
    assert same(weights_of(again), weights_of(network))
    assert same(resumed.state_dict(), optimizer.state_dict())


def test_statistics_keep_their_number_type_where_the_weights_are_bfloat16(tmp_path):
    network = t5(torch.bfloat16)
    optimizer = adafactor(network)
    move(network, optimizer, range(2))
    save(tmp_path / "here", network, optimizer, TrainingState(step=2))
    again = t5(torch.bfloat16)
    resumed = adafactor(again)
    load(tmp_path / "here", again, resumed)
    kept = resumed.state[again.model.shared.weight]["exp_avg_sq_row"]
    assert kept.dtype == torch.float32  # torch's own load_state_dict would have made it bfloat16
    assert same(resumed.state_dict(), optimizer.state_dict()) and same(weights_of(again), weights_of(network))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mapped files")
def test_nothing_stays_mapped_to_the_files(tmp_path):
    save(tmp_path / "here", *small(), TrainingState())
    network, optimizer = small()
    load(tmp_path / "here", network, optimizer)
    gc.collect()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_loading_a_state_of_before_the_first_step_forgets_later_ones(tmp_path):
    fresh = Small()
    save(tmp_path / "here", fresh, adamw(fresh), TrainingState())
    network, optimizer = small()
    assert optimizer.state
    load(tmp_path / "here", network, optimizer)
    assert not optimizer.state


def test_loading_brings_the_saved_rate_back(tmp_path):
    network, optimizer = small()
    optimizer.param_groups[0]["lr"] = 0.1 + 0.2
    save(tmp_path / "here", network, optimizer, TrainingState())
    network, optimizer = small()
    load(tmp_path / "here", network, optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.30000000000000004
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def test_trained_parameters_alone_are_written_and_a_tied_table_once(tmp_path):
    network = t5()
    network.model.encoder.block.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])
    move(network, optimizer, range(1))
    save(tmp_path / "here", network, optimizer, TrainingState(step=1))
    assert sorted(file.name for file in (tmp_path / "here").iterdir()) == [
        "checkpoint.json",
        "optimizer.json",
        "optimizer.safetensors",
        "weights.safetensors",
    ]
    names = set(load_file(tmp_path / "here" / "weights.safetensors"))
    assert names == {name for name, p in network.named_parameters() if p.requires_grad}
    assert "model.shared.weight" in names and not any("embed_tokens" in n or "lm_head" in n for n in names)
    assert not any(name.startswith("model.encoder.block") for name in names)


def test_two_parameters_in_the_same_memory_are_both_written(tmp_path):
    network = Small()
    network.other = nn.Parameter(network.weight.data.view(2, 1))
    save(tmp_path / "here", network, None, TrainingState())
    there = load_file(tmp_path / "here" / "weights.safetensors")
    assert {name: tuple(t.shape) for name, t in there.items()} == {"weight": (2,), "other": (2, 1)}


@settings(max_examples=25, deadline=None)
@given(
    best=st.none() | st.floats(allow_nan=False),
    step=st.integers(0, 10**9),
    losses=st.lists(st.floats(allow_nan=False), max_size=5),
)
def test_the_state_comes_back_as_it_was(tmp_path_factory, best, step, losses):
    folder = tmp_path_factory.mktemp("state") / "here"
    state = TrainingState(step, best, None, 2, 3 * step, 10**13, tuple(losses))
    save(folder, Small(), None, state)
    assert load(folder, Small()) == state


def test_a_loss_that_is_no_number_comes_back(tmp_path):
    save(tmp_path / "here", Small(), None, TrainingState(loss_history=(1.0, math.nan)))
    first, second = load(tmp_path / "here", Small()).loss_history
    assert first == 1.0 and math.isnan(second)


# --- keeping ------------------------------------------------------------------------------------------------------


def test_the_newest_are_kept_and_the_best_beside_them(tmp_path):
    with Keeper(tmp_path / "run", keep_last=2) as keeper:
        assert keeper.begin(*small()) == TrainingState()
        assert keeper.last is None and keeper.best is None and keeper.load_best(Small()) is None
        for step in (5, 10, 15, 100):
            folder = keeper.save_last(*small(step), TrainingState(step=step))
            assert folder.name == f"step-{step:08d}"
            if step in (5, 15):
                keeper.save_best(Small(step), TrainingState(step=step, best_score=step / 100, best_step=step))
        assert [p.name for p in keeper.steps] == ["step-00000015", "step-00000100"]
        assert keeper.last == tmp_path / "run" / "step-00000100"
        network = Small()
        assert keeper.load_best(network).best_score == 0.15 and network.weight.tolist() == [15, 15]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["best", "step-00000015", "step-00000100"]
    assert sorted(p.name for p in (tmp_path / "run" / "best").iterdir()) == ["checkpoint.json", "weights.safetensors"]


def test_steps_are_ordered_by_number_even_beyond_eight_digits(tmp_path):
    for name in ("step-99999999", "step-100000000", "step-00000007", "step-7", "step-00000001.damaged"):
        (tmp_path / name).mkdir()
    assert [p.name for p in step_folders(tmp_path)] == ["step-00000007", "step-99999999", "step-100000000"]


def test_resume_takes_the_newest_and_says_so(tmp_path):
    keeper_with(tmp_path, 5, 10)
    notes = []
    network, optimizer = small()
    with Keeper(tmp_path, fingerprint=RECIPE, resume=True, note=notes.append) as keeper:
        assert keeper.begin(network, optimizer).step == 10
    assert network.weight.tolist() == [10, 10]
    assert notes == [f"going on from step 10 ({tmp_path / 'step-00000010'})"]


def test_resume_of_a_folder_without_checkpoints_begins_anew(tmp_path):
    with Keeper(tmp_path / "new", resume=True) as keeper:
        assert keeper.begin(*small()) == TrainingState()


def test_a_process_that_does_not_write_reads_and_takes_no_lock(tmp_path):
    keeper_with(tmp_path, 5)
    with (
        Keeper(tmp_path, fingerprint=RECIPE, resume=True) as first,
        Keeper(tmp_path, fingerprint=RECIPE, resume=True, writes=False) as second,
    ):
        assert first.begin(*small()) == second.begin(*small())
        second.save_last(*small(6), TrainingState(step=6))
        second.save_best(Small(6), TrainingState(step=6))
        assert second.best is None and [p.name for p in second.steps] == ["step-00000005"]


def test_at_least_one_is_kept(tmp_path):
    with pytest.raises(OutputError, match="Keep at least 1"):
        Keeper(tmp_path, keep_last=0)


# --- whose folder -------------------------------------------------------------------------------------------------


def test_a_folder_with_a_run_is_not_begun_anew(tmp_path):
    keeper_with(tmp_path, 5)
    with pytest.raises(OutputError) as error, Keeper(tmp_path, fingerprint=RECIPE):
        pass
    assert str(error.value) == (
        f"{tmp_path}: holds a training run already\n--resume goes on with it; or name another folder."
    )
    shutil.rmtree(tmp_path / "step-00000005")
    save(tmp_path / "best", Small(), None, TrainingState())
    with pytest.raises(OutputError, match="holds a training run already"):
        check_output(tmp_path)


def test_another_recipe_is_refused_by_the_settings_that_differ(tmp_path):
    keeper_with(tmp_path, 5)
    other = {
        "seed": 7,
        "optimizer": {"name": "adafactor", "rate": 1e-4},
        "objectives": [{"direction": "flipped", "unlikelihood": 3.0}],
    }
    with pytest.raises(OutputError) as error, Keeper(tmp_path, fingerprint=other, resume=True):
        pass
    assert str(error.value).split("\n") == [
        f"{tmp_path}: the run there was started with another recipe",
        '  optimizer.name: "adamw" there, "adafactor" now',
        "  optimizer.rate: 5e-05 there, 0.0001 now",
        "  objectives[0].unlikelihood: nothing there, 3.0 now",
        "--resume goes on only with the same recipe; name another folder to begin anew.",
    ]
    assert not (tmp_path / ".lock").exists()


def test_many_differences_are_counted_after_the_fifth():
    stored = {f"k{i}": i for i in range(9)}
    assert len(differing(stored, {})) == 9
    assert differing({"a": (1, 2)}, {"a": [1, 2]}) == []
    assert differing({"a": {}}, {"a": {"b": 1}}) == ["a: {} there, nothing now", "a.b: nothing there, 1 now"]
    listed = checkpoints._some([str(i) for i in range(7)], each="  ")
    assert listed == ["  0", "  1", "  2", "  3", "  4", "  and 2 more"]


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=3), st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)))
def test_the_digest_depends_on_the_settings_and_not_on_their_order(recipe):
    turned = dict(reversed(list(recipe.items())))
    assert fingerprint_digest(recipe) == fingerprint_digest(turned) and differing(recipe, turned) == []
    assert fingerprint_digest({**recipe, "more": 1}) != fingerprint_digest(recipe)


def test_the_digest_is_the_hash_of_the_sorted_settings():
    # printf '{"a":[1,2],"b":{"c":0.5}}' | sha256sum
    import hashlib

    text = b'{"a":[1,2],"b":{"c":0.5}}'
    assert fingerprint_digest({"b": {"c": 0.5}, "a": (1, 2)}) == hashlib.sha256(text).hexdigest()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_output(tmp_path / "run")
    with pytest.raises(OutputError), Keeper(tmp_path / "run"):
        pass
    with pytest.raises(OutputError), Keeper(tmp_path / "run" / "below"):
        pass


def test_a_folder_in_use_is_refused_by_its_process_and_free_once_that_is_killed(tmp_path):
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with Keeper(tmp_path):
            os.write(told, b".")
            time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    try:
        with pytest.raises(OutputError) as error, Keeper(tmp_path):
            pass
        assert f"another run is writing there (process {child} on {socket.gethostname()})" in str(error.value)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(told)
    assert (tmp_path / ".lock").exists()
    with Keeper(tmp_path) as keeper:
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
        keeper.begin(*small())
    assert not (tmp_path / ".lock").exists()


def test_two_keepers_of_one_process_are_two_runs(tmp_path):
    with Keeper(tmp_path), pytest.raises(OutputError, match=f"process {os.getpid()} on"), Keeper(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 99999999, "host": "HERE"}'])
@pytest.mark.parametrize("system_locks", [True, False])
def test_a_stale_lock_is_no_hindrance(tmp_path, monkeypatch, text, system_locks):
    if not system_locks:
        monkeypatch.setattr(disk, "fcntl", None)
    (tmp_path / ".lock").write_text(text.replace("HERE", socket.gethostname()))
    with Keeper(tmp_path):
        pass


@pytest.mark.parametrize("is_here", [False, True])
def test_without_the_systems_locks_a_living_holder_counts(tmp_path, monkeypatch, is_here):
    host, pid = (socket.gethostname(), os.getpid()) if is_here else ("elsewhere", 1)
    monkeypatch.setattr(disk, "fcntl", None)
    (tmp_path / ".lock").write_text(json.dumps({"pid": pid, "host": host}))
    with pytest.raises(OutputError, match=f"process {pid} on {host}"), Keeper(tmp_path):
        pass
    assert (tmp_path / ".lock").exists()


# --- whole or not at all ------------------------------------------------------------------------------------------


class _Dying:
    """Calls that reach the disk, of which the `at`-th is the process's last."""

    PLACES = (
        (os, "rename"),
        (os, "fsync"),
        (os, "mkdir"),
        (shutil, "rmtree"),
        (Path, "write_text"),
        (checkpoints, "_write_tensors"),
    )

    def __init__(self, at, do, *, spared=()):
        self.places = [place for place in self.PLACES if place[1] not in spared]
        self.left = at
        self.do = do

    def __enter__(self):
        self.saved = [(place, name, getattr(place, name)) for place, name in self.places]
        for place, name, call in self.saved:
            setattr(place, name, self.counted(call))
        return self

    def counted(self, call):
        def made(*args, **kwargs):
            self.left -= 1
            if self.left == -1:
                self.do()
            return call(*args, **kwargs)

        return made

    def __exit__(self, *details):
        for place, name, call in self.saved:
            setattr(place, name, call)


def _calls(action):
    with _Dying(10**6, lambda: None) as dying:
        action()
    return 10**6 - dying.left


@pytest.mark.parametrize("which", ["another step", "the same step", "best"])
def test_a_kill_at_any_call_leaves_the_old_or_the_new(tmp_path, which):
    def saving(output):
        with Keeper(output, resume=True, keep_last=1) as keeper:
            if which == "best":
                keeper.save_best(Small(2), TrainingState(step=2))
            else:
                keeper.save_last(*small(2), TrainingState(step=2 if which == "another step" else 1))

    def prepared(output):
        with Keeper(output, keep_last=1) as keeper:
            keeper.save_last(*small(1), TrainingState(step=1))
            keeper.save_best(Small(1), TrainingState(step=1))
        return output

    outcomes = set()
    calls = _calls(lambda: saving(prepared(tmp_path / "counted")))
    assert calls > 15
    for at in range(calls - _calls(lambda: prepared(tmp_path / "counted again"))):
        output = prepared(tmp_path / f"run {at}")
        child = os.fork()
        if child == 0:
            with _Dying(at, lambda: os._exit(9)):
                saving(output)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        network, optimizer = small()
        with Keeper(output, resume=True, keep_last=1) as keeper:
            keeper.begin(network, optimizer)
            last = network.weight.tolist()
            keeper.load_best(network)
            best = network.weight.tolist()
            left = {p.name for p in output.iterdir()} - {".lock", "best", "step-00000001", "step-00000002"}
            assert not left
        outcomes.add(best[0] if which == "best" else last[0])
        assert (last if which == "best" else best) == [1, 1]
    assert outcomes == {1, 2}


def test_a_kill_at_any_time_leaves_a_whole_checkpoint(tmp_path):
    step = 0
    for turn in range(5):
        child = os.fork()
        if child == 0:
            with Keeper(tmp_path, resume=True) as keeper:
                state = keeper.begin(*small())
                while True:
                    state.step += 1
                    keeper.save_last(*small(state.step), state)
                    keeper.save_best(Small(state.step), state)
        until = time.monotonic() + 60
        while time.monotonic() < until and not (tmp_path / f"step-{step + 1:08d}").exists():
            time.sleep(0.001)  # a busy machine may take long to start the child
        time.sleep(random.Random(turn).uniform(0.0, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        network, optimizer = small()
        notes = []
        with Keeper(tmp_path, resume=True, note=notes.append) as keeper:
            reached = keeper.begin(network, optimizer).step
            assert reached >= step and network.weight.tolist() == [reached, reached]
            best = keeper.load_best(network)
            assert best is None or network.weight.tolist() == [best.step, best.step]
            assert not [p for p in tmp_path.iterdir() if p.name.startswith(".") and p.name != ".lock"]
        assert not [note for note in notes if "looking for an earlier" in note]
        step = reached
    assert step > 0


class SafetensorError(Exception):
    """As safetensors tells the system's errors."""


ANYWHERE = (OSError(errno.ENOSPC, "No space left on device"), ("rmtree",))  # room is made all the same
IN_TENSORS = (
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ("rmtree", "rename", "fsync", "mkdir", "write_text"),
)


# Four files, each written and brought to the disk, the folder made and renamed; the best has two files and two renames.
@pytest.mark.parametrize(
    ("target", "failure", "times"),
    [
        ("save_last", ANYWHERE, 10),
        ("save_best", ANYWHERE, 7),
        ("save_last", IN_TENSORS, 2),
        ("save_best", IN_TENSORS, 1),
    ],
)
def test_a_full_disk_leaves_what_was_there(tmp_path, target, failure, times):
    error, spared = failure

    def full():
        raise error

    def saving(keeper):
        if target == "save_last":
            keeper.save_last(*small(2), TrainingState(step=2))
        else:
            keeper.save_best(Small(2), TrainingState(step=2))

    refused = 0
    for at in range(12):  # the first call that reaches the disk fails, then the second, ..
        output = tmp_path / str(at)
        with Keeper(output) as keeper:
            keeper.save_last(*small(1), TrainingState(step=1))
            keeper.save_best(Small(1), TrainingState(step=1))
            before = sorted(output.rglob("*"))
            try:
                with _Dying(at, full, spared=spared):
                    saving(keeper)
            except OutputError as found:
                refused += 1
                assert "the disk is full: the checkpoint of step 2 cannot be written; what was there" in str(found)
                assert "--resume goes on from the last checkpoint" in str(found)
                assert sorted(output.rglob("*")) == before
                network, optimizer = small()
                assert load(output / "step-00000001", network, optimizer).step == 1
                assert load(output / "best", network).step == 1
                assert network.weight.tolist() == [1, 1]
            saving(keeper)  # with room again
    assert refused == times


def test_another_failure_of_the_disk_is_told_as_it_is(tmp_path, monkeypatch):
    def refused(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoints, "_write_tensors", refused)
    with pytest.raises(OutputError) as error:
        save(tmp_path / "here", Small(), None, TrainingState(step=1200))
    assert str(error.value).split("\n") == [
        f"{tmp_path / 'here'}: the checkpoint of step 1,200 cannot be written: Permission denied",
        "Mend that, or name a folder that you may write to.",
    ]
    assert not list(tmp_path.iterdir())


def test_an_interrupt_while_saving_leaves_nothing_half_done(tmp_path):
    save(tmp_path / "here", Small(1), None, TrainingState(step=1))
    before = sorted(tmp_path.rglob("*"))

    def interrupt():
        raise KeyboardInterrupt

    for at in range(8):
        with pytest.raises(KeyboardInterrupt), _Dying(at, interrupt, spared=("rmtree",)):
            save(tmp_path / "here", Small(2), None, TrainingState(step=2))
        assert sorted(tmp_path.rglob("*")) == before
        network = Small()
        assert load(tmp_path / "here", network).step == 1 and network.weight.tolist() == [1, 1]


# --- room on the disk ---------------------------------------------------------------------------------------------


def test_the_estimate_before_the_first_step_is_what_a_checkpoint_takes(tmp_path):
    for make in (adamw, adafactor, lambda network: adafactor(network, beta1=0.9)):
        network = t5()
        optimizer = make(network)
        weights, moments = checkpoint_bytes(network, optimizer)
        assert weights == 4 * sum(p.numel() for p in network.parameters())
        move(network, optimizer, range(1))
        exact = sum(
            t.numel() * t.element_size()
            for kept in optimizer.state.values()
            for t in kept.values()
            if isinstance(t, torch.Tensor) and t.numel() > 1
        )
        assert moments == exact


def test_a_disk_without_room_is_told_before_the_first_step(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    network = nn.Linear(1000, 1000, bias=False)  # 4 MB; with AdamW's moments 12 MB a checkpoint
    with Keeper(tmp_path / "run", keep_last=2) as keeper:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 43_900_000))
        with pytest.raises(OutputError) as error:
            keeper.begin(network, adamw(network))
        # three checkpoints of 12 MB, as the newest is written before the oldest goes, and two of the best
        assert "need about 44.0 MB, and 43.9 MB are free" in str(error.value)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 44_000_000))
        keeper.begin(network, adamw(network))


# --- damage -------------------------------------------------------------------------------------------------------


def cut(file):
    file.write_bytes(file.read_bytes()[:-3])


def flip(file):
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)


def edit(change):
    def apply(file):
        raw = json.loads(file.read_text())
        change(raw)
        file.write_text(json.dumps(raw))

    return apply


def wrong_state(name, value):
    return edit(lambda raw: raw["state"].update({name: value}))


DAMAGE = [
    ("weights.safetensors", Path.unlink, "weights.safetensors is missing"),
    ("weights.safetensors", cut, r"weights.safetensors has \d+ bytes of \d+"),
    ("weights.safetensors", flip, "weights.safetensors is damaged: its checksum differs"),
    ("optimizer.safetensors", flip, "optimizer.safetensors is damaged: its checksum differs"),
    ("optimizer.json", cut, r"optimizer.json has \d+ bytes of \d+"),
    ("checkpoint.json", Path.unlink, "has no checkpoint.json"),
    ("checkpoint.json", cut, "checkpoint.json is damaged"),
    ("checkpoint.json", lambda file: file.write_text("[]"), "checkpoint.json is damaged"),
    ("checkpoint.json", lambda file: file.write_text("[" * 100_000), "checkpoint.json is damaged"),
    ("checkpoint.json", lambda file: file.write_bytes(b"\xff\xfe"), "checkpoint.json is damaged"),
    ("checkpoint.json", edit(lambda raw: raw.pop("state")), "checkpoint.json is damaged"),
    ("checkpoint.json", edit(lambda raw: raw.update(files=[])), "checkpoint.json is damaged"),
    ("checkpoint.json", edit(lambda raw: raw["files"].update({"../x": {}})), "checkpoint.json is damaged"),
    ("checkpoint.json", edit(lambda raw: raw["files"].pop("weights.safetensors")), "checkpoint.json is damaged"),
    ("checkpoint.json", wrong_state("step", "10"), "checkpoint.json is damaged: state step"),
    ("checkpoint.json", wrong_state("step", True), "checkpoint.json is damaged: state step"),
    ("checkpoint.json", wrong_state("best_score", [1]), "checkpoint.json is damaged: state best_score"),
    ("checkpoint.json", wrong_state("loss_history", [None]), "checkpoint.json is damaged: state loss_history"),
    ("checkpoint.json", wrong_state("mood", 1), "checkpoint.json is damaged: state mood"),
]


@pytest.mark.parametrize(("name", "harm", "told"), DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(tmp_path, name, harm, told):
    keeper_with(tmp_path, 5, 10)
    harm(tmp_path / "step-00000010" / name)
    with pytest.raises(DamagedCheckpoint, match=told):
        load(tmp_path / "step-00000010", *small())
    notes = []
    network, optimizer = small()
    with Keeper(tmp_path, fingerprint=RECIPE, resume=True, note=notes.append) as keeper:
        assert keeper.begin(network, optimizer).step == 5
        assert network.weight.tolist() == [5, 5]
        assert len(notes) == 2 and str(tmp_path / "step-00000010") in notes[0]
        assert re.search(told + ".*; looking for an earlier one", notes[0]), notes[0]
        # it does not count among the newest from the next checkpoint on
        keeper.save_last(*small(7), TrainingState(step=7))
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000005", "step-00000007", "step-00000010.damaged"]


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path):
    keeper_with(tmp_path, 5, 10)
    flip(tmp_path / "step-00000010" / "weights.safetensors")
    with Keeper(tmp_path, fingerprint=RECIPE, resume=True) as keeper:
        keeper.begin(*small())
        keeper.save_last(*small(10), TrainingState(step=10))
    assert load(tmp_path / "step-00000010", *small()).step == 10
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000005", "step-00000010"]


def test_when_none_is_whole_all_are_named(tmp_path):
    keeper_with(tmp_path, 5, 10)
    for folder in step_folders(tmp_path):
        flip(folder / "weights.safetensors")
    with (
        pytest.raises(OutputError, match=r"no checkpoint there is whole \(step-00000010, step-00000005\)"),
        Keeper(tmp_path, fingerprint=RECIPE, resume=True) as keeper,
    ):
        keeper.begin(*small())


def rewritten(folder, name, change):
    """Change a file and its size and checksum, as a fault of the writer would."""
    file = folder / name
    change(file)
    edit(lambda raw: raw["files"].update({name: {"bytes": file.stat().st_size, "crc32": checkpoints._checksum(file)}}))(
        folder / "checkpoint.json"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_text("[]"),
        edit(lambda raw: raw["state"]["weight"].update(step={"tensor": "elsewhere"})),
        edit(lambda raw: raw["state"]["weight"].update(step={})),
        edit(lambda raw: raw["state"].update(weight=[])),
        edit(lambda raw: raw["groups"][0].pop("settings")),
    ],
)
def test_an_optimizer_file_of_wrong_types_is_damaged(tmp_path, change):
    save(tmp_path / "here", *small(), TrainingState())
    rewritten(tmp_path / "here", "optimizer.json", change)
    with pytest.raises(DamagedCheckpoint, match=r"optimizer\.(json|safetensors)"):
        load(tmp_path / "here", *small())


def test_weights_that_are_no_safetensors_are_damaged(tmp_path):
    save(tmp_path / "here", *small(), TrainingState())
    rewritten(tmp_path / "here", "weights.safetensors", lambda file: file.write_bytes(b"\0" * 40))
    with pytest.raises(DamagedCheckpoint, match=r"weights\.safetensors cannot be read"):
        load(tmp_path / "here", *small())


# --- what does not belong together --------------------------------------------------------------------------------


def test_another_model_is_refused_and_left_as_it_was(tmp_path):
    save(tmp_path / "here", *small(3), TrainingState())
    other = nn.Module()
    other.weight = nn.Parameter(torch.zeros(2, 3, dtype=torch.float64))
    other.bias = nn.Parameter(torch.zeros(()))
    with pytest.raises(OutputError) as error:
        load(tmp_path / "here", other)
    assert not isinstance(error.value, DamagedCheckpoint)
    assert str(error.value).split("\n") == [
        f"{tmp_path / 'here'}: the checkpoint belongs to another model, or to one trained in other parts",
        "  weight: 2 F32 there, 2x3 F64 here",
        "  bias: nothing there, a number F32 here",
        "Go on with the recipe that the run was started with.",
    ]
    assert not other.weight.any()


def test_an_optimizer_with_other_groups_is_refused_and_the_weights_left_alone(tmp_path):
    network = t5()
    save(tmp_path / "here", network, adamw(network), TrainingState())
    again = Network(tiny.t5(seed=3))
    before = weights_of(again)
    with pytest.raises(OutputError, match="other groups of parameters"):
        load(tmp_path / "here", again, OPTIMIZERS["two groups"](again))
    assert same(weights_of(again), before)


def test_the_best_weights_are_nothing_to_go_on_from(tmp_path):
    save(tmp_path / "best", Small(), None, TrainingState())
    with pytest.raises(OutputError, match="holds weights alone"):
        load(tmp_path / "best", *small())


def test_no_checkpoint_at_all(tmp_path):
    with pytest.raises(OutputError, match="there is no such checkpoint"):
        load(tmp_path / "nowhere", Small())


def test_an_optimizer_of_other_parameters_is_refused(tmp_path):
    with pytest.raises(OutputError, match="parameters that are not the network's"):
        save(tmp_path / "here", Small(), adamw(Small()), TrainingState())


def test_a_state_that_no_file_can_hold_is_named(tmp_path):
    network, optimizer = small()
    optimizer.state[network.weight]["memo"] = {1, 2}
    with pytest.raises(OutputError, match=r"keeps a set \(weight/memo\)"):
        save(tmp_path / "here", network, optimizer, TrainingState())


def test_a_checkpoint_of_a_later_version_is_named(tmp_path):
    save(tmp_path / "here", *small(), TrainingState())
    edit(lambda raw: raw.update(obverse_checkpoint=9))(tmp_path / "here" / "checkpoint.json")
    with pytest.raises(OutputError, match="is in version 9, not 1, of its format"):
        load(tmp_path / "here", *small())


@pytest.mark.parametrize(("present", "expected"), [(("new",), 2), (("new", "old"), 2), (("old",), 1)])
def test_what_a_kill_left_beside_its_place_is_found_and_put_there(tmp_path, present, expected):
    for kind, value in (("new", 2), ("old", 1)):
        if kind in present:
            save(tmp_path / f".best.{kind}", Small(value), None, TrainingState(step=value))
    (tmp_path / ".step-00000003.gone").mkdir()
    network = Small()
    assert load(tmp_path / "best", network).step == expected  # before anybody has cleaned up
    with Keeper(tmp_path, resume=True) as keeper:
        assert keeper.best == tmp_path / "best"
        assert keeper.load_best(network).step == expected and network.weight.tolist() == [expected] * 2
    assert [p.name for p in tmp_path.iterdir()] == ["best"]
