"""The training loop: the losses of a plain one, however a step is cut up, interrupted, killed or divided."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import tiny  # noqa: E402
from obverse.errors import ObverseError, OutputError, RecipeError  # noqa: E402
from obverse.objectives import objectives as named  # noqa: E402
from obverse.objectives.objectives import Objective  # noqa: E402
from obverse.seeds import stream  # noqa: E402
from obverse.tasks.directions import Direct, Flipped  # noqa: E402
from obverse.tasks.mixture import Mixture  # noqa: E402
from obverse.training import loop  # noqa: E402
from obverse.training.checkpoints import Keeper, load, step_folders  # noqa: E402
from obverse.training.loop import Diverged, Evaluation, Stopped, TrainingSettings, train  # noqa: E402
from obverse.training.network import Lengths  # noqa: E402
from obverse.training.optimizers import OptimizerSettings, build_optimizer, rate_factor  # noqa: E402
from two_processes import Films, Job, Lines, free_port, lengths_prior, mixture, network, start  # noqa: E402

ADAMW = OptimizerSettings("adamw", rate=1e-2)
ADAFACTOR = OptimizerSettings("adafactor", rate=1e-2, warmup_steps=2, decay_steps=4)
JOINT = (
    Objective(Flipped(), negatives=2, likelihood=1.0, sink=0.5, unlikelihood=2.0, name="flipped"),
    Objective(Direct(), negatives=2, choice=0.7, choice_scale=0.3, normalisation="token", name="direct"),
)
NAMED = {
    "direct": named.direct(),
    "channel": named.channel(),
    "flipped": named.flipped(),
    "flipped-without-unlikelihood": named.flipped_without_unlikelihood(),
    "direct-unlikelihood": named.direct_unlikelihood(),
    "symbol": named.symbol(),
}


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(
        **{"steps": 5, "examples_per_step": 4, "optimizer": ADAMW, "token_budget": 64, "seed": 3, "save_every": 100}
        | changes
    )


def losses(output: Path, objectives, **changes) -> list[float]:
    lines = Lines()
    Job(output, tuple(objectives), settings(**changes)).run(lines)
    return lines.losses


def same_weights(a, b) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def gradient(output: Path) -> torch.Tensor:
    """The gradient of the one step of a run, as AdamW's first moment in its checkpoint has it."""
    made = network()
    optimizer = build_optimizer(made.model, ADAMW)
    load(step_folders(output)[-1], made, optimizer)
    return torch.cat([optimizer.state[p]["exp_avg"].flatten() / 0.1 for p in made.parameters()])


# --- what is computed ---------------------------------------------------------------------------------------------


def plain_losses(objective: Objective, *, steps: int, examples: int) -> list[float]:
    """The same training by transformers' forward pass, one text at a time, with nothing of the loop's."""
    made = network()
    model, tokenizer = made.language_model.model, made.tokenizer
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    source = mixture()
    found = []
    for step in range(steps):
        right, wrong = [], []
        for i in range(step * examples, (step + 1) * examples):
            draw = source.draw(i)
            others = [o for o in range(len(draw.options)) if o != draw.gold]
            stream(3, "negatives", objective.name, i).shuffle(others)
            for option, side in ((draw.gold, right), *((o, wrong) for o in others[: objective.negatives])):
                query = objective.direction.query(draw.rendering, draw.options[option])
                given, said = (
                    [*tokenizer(text, add_special_tokens=False)["input_ids"], 1]
                    for text in (query.given, query.said.lstrip())
                )
                logits = model(
                    input_ids=torch.tensor([given]), decoder_input_ids=torch.tensor([[0, *said[:-1]]])
                ).logits[0]
                side.append(torch.log_softmax(logits, -1)[torch.arange(len(said)), torch.tensor(said)])
        if objective.normalisation == "token":
            loss = -torch.cat(right).mean()
        else:
            loss = -torch.stack([row.mean() for row in right]).mean()
        if objective.unlikelihood:
            loss = loss - 3 * torch.stack([(1 - row.exp() + 0.01).log().mean() for row in wrong]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


# Of the first correct run; a change of any of them is a change of what is trained.
RECORDED = {
    "direct": [3.110664, 3.060429, 2.896037, 2.839844, 2.761068],
    "channel": [3.156833, 3.106654, 3.051175, 3.045361, 2.970471],
    "flipped": [3.251474, 3.210947, 3.189003, 3.129872, 3.145416],
    "flipped-without-unlikelihood": [3.150650, 3.100566, 3.075661, 3.004354, 3.022897],
    "direct-unlikelihood": [3.216108, 3.197343, 3.031729, 2.991415, 2.903039],
    "symbol": [3.110664, 3.071424, 2.897978, 2.843796, 2.765181],
}


@pytest.mark.parametrize("name", NAMED)
def test_every_named_objective_trains_as_a_plain_loop_does(name, tmp_path):
    found = losses(tmp_path / "run", [NAMED[name]])
    assert found == pytest.approx(plain_losses(NAMED[name], steps=5, examples=4), abs=1e-5)
    assert found == pytest.approx(RECORDED[name], abs=1e-5)


def test_objectives_together_add_up(tmp_path):
    lines = Lines()
    Job(tmp_path / "run", (named.direct(), named.flipped()), settings(steps=1)).run(lines)
    assert list(lines.parts[0]) == ["direct/likelihood", "flipped/likelihood", "flipped/unlikelihood"]
    alone = [losses(tmp_path / n, [NAMED[n]], steps=1)[0] for n in ("direct", "flipped")]
    assert lines.losses[0] == pytest.approx(sum(alone), abs=1e-5)
    assert lines.steps[0]["examples"] == 4 and lines.steps[0]["rate"] == 1e-2 and lines.steps[0]["norm"] > 0


@pytest.mark.parametrize("budget", [64, 1])
def test_a_step_cut_into_micro_batches_is_the_same_step(budget, tmp_path):
    """Numbers of rows, tokens and groups differ between micro-batches; what each term is divided by does not."""
    runs = []
    for name, most in (("whole", 10_000), ("cut", budget)):
        lines = Lines()
        for folder, steps in ((name, 5), (f"{name} first", 1)):
            chosen = settings(steps=steps, token_budget=most, examples_per_step=6)
            Job(tmp_path / folder, JOINT, chosen, prior=lengths_prior).run(lines if steps > 1 else None)
        runs.append(lines)
    whole, cut = runs
    for a, b in zip(whole.parts, cut.parts, strict=True):
        assert a == pytest.approx(b, abs=1e-5)
        assert len(a) == 5
    assert [s["tokens"] for s in whole.steps] == [s["tokens"] for s in cut.steps]
    assert [s["norm"] for s in whole.steps] == pytest.approx([s["norm"] for s in cut.steps], rel=1e-5)
    assert torch.allclose(gradient(tmp_path / "whole first"), gradient(tmp_path / "cut first"), atol=1e-6)


def test_the_prior_is_seen_by_its_share_of_the_draws(tmp_path):
    """Share 0 is no prior at all; share 1 moves the choice of every draw."""
    objective = [Objective(Direct(), likelihood=0.0, negatives=2, choice=1.0)]

    def choice(name, **changes) -> float:
        prior = changes.pop("prior", lengths_prior)
        lines = Lines()
        Job(tmp_path / name, tuple(objective), settings(steps=1, **changes), prior=prior).run(lines)
        return lines.losses[0]

    without = choice("none", prior=None)
    assert choice("zero", prior_share=0.0) == without
    made = network()
    terms = []
    for i in range(4):
        draw = mixture().draw(i)
        pairs = objective[0].pairs(draw, 0, random.Random(0))
        nats = lengths_prior([draw])[0]
        with torch.no_grad():
            answer = made(made.rows(pairs, 0))
        scores = (answer.log_probs_NT * answer.mask_NT).sum(1) + torch.tensor([nats[p.option] for p in pairs])
        terms.append(float(torch.logsumexp(scores, 0) - scores[0]))
    assert choice("all", prior_share=1.0) == pytest.approx(sum(terms) / 4, abs=1e-5)
    assert choice("all again", prior_share=1.0) != pytest.approx(without, abs=1e-3)


def test_what_the_lengths_took_away_is_told(tmp_path):
    """All that is missing from the rows, whether an input was shortened or a side was cut."""
    lines = Lines()
    objective = named.direct()
    train(
        network(lengths=Lengths(6, 8)), mixture(), [objective], settings(steps=3), output=tmp_path / "run",
        watcher=lines, fingerprint={},
    )  # fmt: skip
    whole = network()
    for step, told in enumerate(lines.steps):
        rows = [
            row
            for i in range(4 * step, 4 * step + 4)
            for row in whole.rows(objective.pairs(mixture().draw(i), 0, random.Random(0)), 0)
        ]
        assert told["cut"] >= sum(max(0, len(row.given) - 6) for row in rows) > 0
        assert told["tokens"] + told["cut"] == sum(len(row.given) + len(row.said) for row in rows)


def test_clipping_bounds_the_norm_and_tells_what_it_was(tmp_path):
    """Plain gradient descent cannot be asked for, so the clipped gradient is read off AdamW's first moment."""
    norms = {}
    for clip in (None, 0.05):
        lines = Lines()
        Job(tmp_path / str(clip), (named.direct(),), settings(steps=1, clip=clip)).run(lines)
        norms[clip] = float(gradient(tmp_path / str(clip)).norm())
        assert lines.steps[0]["norm"] == pytest.approx(norms[None], rel=1e-4)
    assert norms[None] > 0.05
    assert norms[0.05] == pytest.approx(0.05, rel=1e-3)


# --- optimizers ---------------------------------------------------------------------------------------------------


def test_rates_rise_stay_and_fall():
    both = OptimizerSettings(rate=1.0, warmup_steps=2, decay_steps=4)
    assert [rate_factor(both, s, 10) for s in range(10)] == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert [rate_factor(OptimizerSettings(), s, 3) for s in range(3)] == [1, 1, 1]


def test_parts_of_the_network_have_rates_of_their_own():
    model = tiny.t5()
    model.decoder.final_layer_norm.weight.requires_grad_(False)
    rates = {"encoder": 0.2, "encoder.block.1": 0.3}
    optimizer = build_optimizer(model, OptimizerSettings("adamw", rate=0.1, weight_decay=0.5, rates=rates))
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    names = {name: rate_of.get(id(p)) for name, p in model.named_parameters()}
    assert names["shared.weight"] == 0.1
    assert names["encoder.block.0.layer.0.SelfAttention.q.weight"] == 0.2
    assert names["encoder.block.1.layer.0.SelfAttention.q.weight"] == 0.3
    assert names["decoder.final_layer_norm.weight"] is None
    assert all(group["weight_decay"] == 0.5 for group in optimizer.param_groups)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names) - 1


def test_adafactor_is_transformers_own_without_relative_steps():
    optimizer = build_optimizer(tiny.t5(), OptimizerSettings("adafactor", rate=5e-5))
    assert type(optimizer).__module__ == "transformers.optimization"
    group = optimizer.param_groups[0]
    assert (group["lr"], group["scale_parameter"], group["relative_step"], group["warmup_init"]) == (
        5e-5,
        False,
        False,
        False,
    )
    assert group["weight_decay"] == 0.0 and group["clip_threshold"] == 1.0 and group["beta1"] is None


def test_optimizer_faults_are_told_at_once():
    with pytest.raises(RecipeError) as told:
        OptimizerSettings("sgd", rate=-1.0, weight_decay=float("nan"), rates={"encoder": "fast"}, warmup_steps=1.5)  # type: ignore[dict-item, arg-type]
    assert str(told.value) == (
        "optimizer: name is 'sgd' and must be one of adafactor, adamw; rate is -1.0 and must be a number from 0 up; "
        "weight_decay is nan and must be a number from 0 up; rates.encoder is 'fast' and must be a number from 0 up; "
        "warmup_steps is 1.5 and must be a whole number from 0 up"
    )
    with pytest.raises(RecipeError, match=r"no trained parameter's name begins with 'encodr'\n.*'encoder'"):
        build_optimizer(tiny.t5(), OptimizerSettings(rates={"encodr": 1.0}))
    with pytest.raises(RecipeError, match="no parameter of the model is trained"):
        build_optimizer(tiny.t5().requires_grad_(False), OptimizerSettings())


# --- interrupted and resumed --------------------------------------------------------------------------------------


class Terminating(Mixture):
    """Sends this process SIGTERM at one draw."""

    def __init__(self, at: int) -> None:
        super().__init__([Films()], seed=11)
        self.at = at

    def draw(self, i):
        if i == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().draw(i)


@pytest.mark.parametrize("optimizer", [ADAMW, ADAFACTOR], ids=["adamw", "adafactor"])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(optimizer, tmp_path):
    """Bit for bit, with dropout, stopped at five random steps one after the other."""
    chosen = settings(steps=12, optimizer=optimizer, save_every=100, evaluate_every=3)
    whole = Lines()
    job = Job(tmp_path / "whole", JOINT, chosen, dropout=0.2, prior=lengths_prior)
    state, expected = job.run(whole)
    assert state.step == 12 and whole.ends == ["the last step is done"]
    stops = sorted(random.Random(7).sample(range(11), 5))
    parts = []
    for n, at in enumerate([*stops, None]):
        made, lines = network(dropout=0.2, seed=0), Lines()
        source = mixture() if at is None else Terminating(at * 4 + 2)
        call = (
            contextlib.nullcontext()
            if at is None
            else pytest.raises(Stopped, match=rf"the checkpoint of step {at + 1} is saved\n.*--resume")
        )
        with call:
            again = train(
                made, source, JOINT, chosen, output=tmp_path / "cut", watcher=lines,
                fingerprint={"recipe": "tiny"}, prior=lengths_prior, resume=n > 0,
            )  # fmt: skip
        assert lines.from_step == (stops[n - 1] + 1 if n else 0)
        if at is not None:
            assert lines.ends == ["SIGTERM came"]
        parts += lines.parts
    assert parts == whole.parts
    assert same_weights(expected, made)
    assert again == state
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_time_that_is_up_saves_and_returns(tmp_path):
    lines = Lines()
    state, _ = Job(tmp_path / "run", (named.direct(),), settings(stop_after_s=0.0)).run(lines)
    assert (state.step, lines.saves, lines.ends) == (1, [1], ["its time is up"])
    lines = Lines()
    state, _ = Job(tmp_path / "run", (named.direct(),), settings(), resume=True).run(lines)
    assert (state.step, lines.from_step, len(lines.parts)) == (5, 1, 4)
    # A run that is done is done.
    lines = Lines()
    state, _ = Job(tmp_path / "run", (named.direct(),), settings(), resume=True).run(lines)
    assert (state.step, lines.parts, lines.ends) == (5, [], ["the last step is done"])


def test_a_second_interrupt_interrupts_at_once(tmp_path):
    class Impatient(Mixture):
        def draw(self, i):
            if i == 9:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
            return super().draw(i)

    lines = Lines()
    with pytest.raises(Stopped, match="interrupted twice; the checkpoint of step 2 is saved"):
        train(
            network(), Impatient([Films()], seed=11), [named.direct()], settings(save_every=1), output=tmp_path / "r",
            watcher=lines, fingerprint={},
        )  # fmt: skip
    assert lines.ends == ["interrupted twice"]
    assert [folder.name for folder in step_folders(tmp_path / "r")] == ["step-00000001", "step-00000002"]


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals")
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path):
    """kill -9 at five random moments, most of them amid a step or a half-written checkpoint."""
    chosen = settings(steps=24, optimizer=ADAFACTOR, save_every=1, token_budget=1000)
    job = Job(tmp_path / "whole", JOINT, chosen, dropout=0.2)
    process = start(job, tmp_path / "whole.pt")
    process.join(60)
    expected = torch.load(tmp_path / "whole.pt")
    assert expected["state"] == 24
    generator = random.Random(5)
    job = Job(tmp_path / "cut", JOINT, chosen, dropout=0.2, resume=True)
    log = tmp_path / "cut.jsonl"
    kills = []
    for n in range(5):
        process = start(job, tmp_path / "cut.pt")
        wanted = 3 * (n + 1)
        deadline = time.monotonic() + 30
        while done(log) < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(generator.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills.append(done(log))
    assert not (tmp_path / "cut.pt").exists()
    assert kills == sorted(kills) and kills[-1] < 24
    process = start(job, tmp_path / "cut.pt")
    process.join(60)
    found = torch.load(tmp_path / "cut.pt")
    assert found["state"] == 24
    for name, weights in expected["weights"].items():
        assert torch.equal(found["weights"][name], weights), name
    whole = {line["step"]: line["parts"] for line in read(tmp_path / "whole.jsonl")}
    assert all(line["parts"] == whole[line["step"]] for line in read(log))  # steps done again are done alike
    assert {line["step"] for line in read(log)} == set(range(1, 25))


def read(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]


def done(log: Path) -> int:
    lines = read(log) if log.exists() else []
    return int(lines[-1]["step"]) if lines else 0


# --- several processes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("examples", [5, 1])
def test_two_processes_compute_what_one_does(examples, tmp_path):
    """Five draws: three and two, and so other numbers of micro-batches. One draw: nothing at all for one of them."""
    chosen = settings(examples_per_step=examples, clip=0.5)
    alone = Lines()
    Job(tmp_path / "alone", JOINT, chosen, prior=lengths_prior).run(alone)
    found = both(Job(tmp_path / "both", JOINT, chosen, prior=lengths_prior), tmp_path)
    assert [f.get("error") for f in found] == [None, None]
    lines = read(tmp_path / "first.jsonl")
    assert not (tmp_path / "second.jsonl").exists()  # the main process alone is watched
    for line, parts in zip(lines, alone.parts, strict=True):
        assert line["parts"] == pytest.approx(parts, abs=1e-5)
    assert [line["norm"] for line in lines] == pytest.approx([s["norm"] for s in alone.steps], rel=1e-4)
    assert [line["tokens"] for line in lines] == [s["tokens"] for s in alone.steps]
    for name, weights in found[0]["weights"].items():
        assert torch.equal(weights, found[1]["weights"][name])


def test_two_processes_add_their_gradients_up(tmp_path):
    """And do not average them, as a data-parallel wrapper would."""
    chosen = settings(examples_per_step=5, steps=1)
    Job(tmp_path / "alone", JOINT, chosen).run()
    both(Job(tmp_path / "both", JOINT, chosen), tmp_path)
    assert torch.allclose(gradient(tmp_path / "alone"), gradient(tmp_path / "both"), atol=1e-6)


def both(job: Job, folder: Path) -> list[dict[str, object]]:
    """What each of two processes reports that run the job together."""
    port = free_port()
    reports = [folder / "first.pt", folder / "second.pt"]
    for process in [start(job, report, number=n, count=2, port=port) for n, report in enumerate(reports)]:
        process.join(60)
    return [torch.load(report) for report in reports]


def test_an_error_of_one_process_is_raised_in_both(tmp_path):
    """The folder is locked and looked at by the main process alone."""
    (tmp_path / "both").write_text("a file in the way")
    errors = [found["error"] for found in both(Job(tmp_path / "both", (named.direct(),), settings()), tmp_path)]
    assert errors[0] == errors[1]
    assert errors[0].startswith("OutputError: ")


def test_a_launch_that_asks_for_a_sharded_network_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RecipeError, match="the launch asks for FSDP"):
        losses(tmp_path / "run", [named.direct()])


# --- evaluation and trouble ---------------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best(tmp_path):
    scores = iter([0.3, 0.5, 0.4, float("nan"), 0.9])
    made, lines = network(), Lines()
    seen = []

    def evaluate() -> Evaluation:
        assert not made.training
        seen.append({n: p.detach().clone() for n, p in made.named_parameters()})
        score = next(scores)
        return Evaluation({"films": score}, score)

    state = train(
        made, mixture(), [named.direct()], settings(steps=50, evaluate_every=2, patience=2), output=tmp_path / "run",
        watcher=lines, fingerprint={}, evaluate=evaluate,
    )  # fmt: skip
    assert [step for step, _ in lines.evaluations] == [2, 4, 6, 8]
    assert (state.step, state.best_score, state.best_step, state.evaluations_without_gain) == (8, 0.5, 4, 2)
    assert (lines.saves, lines.ends) == ([8], ["no gain in 2 evaluations in a row"])
    best = network()
    load(tmp_path / "run" / "best", best)
    assert all(torch.equal(p, seen[1][n]) for n, p in best.named_parameters())
    # Going on with it changes nothing.
    again = train(
        made, mixture(), [named.direct()], settings(steps=50, evaluate_every=2, patience=2), output=tmp_path / "run",
        watcher=Lines(), fingerprint={}, evaluate=evaluate, resume=True,
    )  # fmt: skip
    assert again == state


def test_a_loss_that_is_no_number_stops_before_the_weights_change(tmp_path):
    made, lines = network(), Lines()
    with torch.no_grad():
        made.language_model.model.decoder.final_layer_norm.weight[0] = float("nan")
    before = {n: p.detach().clone() for n, p in made.named_parameters()}
    with pytest.raises(Diverged) as told:
        train(
            made, mixture(), [named.direct()], settings(), output=tmp_path / "run", watcher=lines, fingerprint={}
        )  # fmt: skip
    ids = ", ".join(f"films {mixture().draw(i).example_id}" for i in range(4))
    assert str(told.value) == (
        "step 1: the loss is nan (direct/likelihood nan); no step was taken on it, and the checkpoints are from before"
        "\n"
        f"Lower the rate (optimizer.rate), set clip, or warm up longer. The examples were: {ids}."
    )
    assert all(torch.equal(p.nan_to_num(), before[n].nan_to_num()) for n, p in made.named_parameters())
    assert lines.ends == [told.value.what]
    assert not step_folders(tmp_path / "run")


def test_a_loss_that_runs_away_stops_and_leaves_the_checkpoint_from_before(tmp_path):
    made, lines = network(), Lines()

    def spoil() -> Evaluation:
        with torch.no_grad():
            made.language_model.model.shared.weight.mul_(100)
        return Evaluation({}, 0.0)

    chosen = settings(steps=36, optimizer=OptimizerSettings("adamw", rate=1e-6), evaluate_every=30, save_every=10)
    with pytest.raises(Diverged, match=r"step 35: the loss is .* 5 steps in a row were over"):
        train(
            made, mixture(), [named.direct()], chosen, output=tmp_path / "run", watcher=lines, fingerprint={},
            evaluate=spoil,
        )  # fmt: skip
    assert len(lines.parts) == 34
    assert lines.losses[-1] > 4 * lines.losses[0]
    # Step 30 was saved after its own loss, which was still a good one; none of the bad ones was.
    assert lines.saves[-1] == 30


@pytest.mark.parametrize(
    ("tail", "away"),
    [
        ([9.0] * 5, True),
        ([9.0] * 4 + [2.0], False),  # the last one is well again
        ([2.0] + [9.0] * 4, False),  # only four in a row
        ([7.9] * 5, False),  # under four times the median
    ],
)
def test_the_rule_for_a_loss_that_runs_away(tail, away):
    assert loop._has_run_away([2.0] * 20 + tail) is away
    assert not loop._has_run_away([2.0] * 19 + tail)  # too few to compare with
    assert not loop._has_run_away([0.01] * 20 + [0.9] * 5)  # many times the median, but a small loss all the same


def test_what_does_not_fit_is_told_before_the_first_step(tmp_path):
    def message(kind, objectives, **changes) -> str:
        with pytest.raises(kind) as told:
            losses(tmp_path / "run", objectives, **changes)
        return str(told.value)

    assert message(RecipeError, []) == "objectives: there is no objective to train on"
    assert "two objectives are called 'direct'" in message(RecipeError, [named.direct(), named.direct()])
    assert message(RecipeError, [named.direct()], steps=0, clip=0, precision="fp16", patience=1.5, seed="x") == (
        "training settings: steps is 0 and must be a whole number from 1 up; patience is 1.5 and must be a whole "
        "number from 1 up; seed is 'x' and must be a whole number; clip is 0 and must be a number above 0; precision "
        "is 'fp16' and must be one of auto, fp32, bf16"
    )
    losses(tmp_path / "run", [named.direct()], steps=1)
    assert "holds a training run already" in message(OutputError, [named.direct()])
    with pytest.raises(OutputError, match="rate"):
        Job(tmp_path / "run", (named.direct(),), settings(), resume=True, fingerprint={"rate": 1}).run()
    made = network()
    made.sink = None
    with pytest.raises(RecipeError, match="'flipped' trains the sink token"):
        train(
            made, mixture(), JOINT, settings(), output=tmp_path / "r", watcher=Lines(), fingerprint={}
        )  # fmt: skip


def test_bf16_keeps_the_trained_weights_in_fp32(tmp_path):
    lines = Lines()
    _, made = Job(tmp_path / "run", (named.direct(),), settings(steps=2, precision="bf16")).run(lines)
    assert {p.dtype for p in made.parameters()} == {torch.float32}
    exact = losses(tmp_path / "fp32", [named.direct()], steps=2, precision="fp32")
    assert lines.losses == pytest.approx(exact, abs=0.2)
    assert lines.losses != pytest.approx(exact, abs=1e-6)


def test_denormals_are_flushed_inside_and_kept_outside(tmp_path):
    tiny_number = sys.float_info.min
    seen = []

    def prior(draws):
        seen.append(tiny_number / 2)
        return [[0.0] * len(draw.options) for draw in draws]

    Job(tmp_path / "run", (named.direct(),), settings(steps=1), prior=prior).run()
    assert seen == [0.0]
    assert tiny_number / 2 > 0


def test_a_running_folder_is_locked(tmp_path):
    with (
        Keeper(tmp_path / "run", fingerprint={"recipe": "tiny"}),
        pytest.raises(ObverseError, match="another run is writing there"),
    ):
        losses(tmp_path / "run", [named.direct()])
