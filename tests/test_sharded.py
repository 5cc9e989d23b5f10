"""Weights divided between two processes: the losses, checkpoints and models of one process that holds them whole.

One launch of two processes trains everything, and the tests look at what it left.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from safetensors.torch import load_file  # noqa: E402
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.fsdp import fully_shard  # noqa: E402
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM  # noqa: E402

import tiny  # noqa: E402
from obverse.errors import ObverseError, RecipeError  # noqa: E402
from obverse.models.base import Conventions  # noqa: E402
from obverse.models.causal import CausalModel  # noqa: E402
from obverse.models.checkpoints import load_model  # noqa: E402
from obverse.models.seq2seq import Seq2SeqModel  # noqa: E402
from obverse.objectives import objectives as named  # noqa: E402
from obverse.objectives.objectives import Objective  # noqa: E402
from obverse.queries import Query  # noqa: E402
from obverse.recipes.recipe import Recipe, fingerprint, read_recipe, resolved_toml  # noqa: E402
from obverse.tasks.directions import Direct, Flipped  # noqa: E402
from obverse.training import loop, sharding  # noqa: E402
from obverse.training.adapters import LoraSettings, add_adapters  # noqa: E402
from obverse.training.checkpoints import Keeper  # noqa: E402
from obverse.training.loop import Evaluation, TrainingSettings, train  # noqa: E402
from obverse.training.network import SPARE, Lengths, PairNetwork, pair_network, save_pretrained  # noqa: E402
from obverse.training.optimizers import OptimizerSettings, ShardedAdafactor, build_optimizer  # noqa: E402
from obverse.training.processes import Processes, join_processes  # noqa: E402
from two_processes import Lines, free_port, lengths_prior, mixture  # noqa: E402

ADAMW = OptimizerSettings("adamw", rate=1e-2, weight_decay=0.1)
ADAFACTOR = OptimizerSettings("adafactor", rate=1e-2, warmup_steps=2)
RELATIVE = OptimizerSettings("adafactor", rate=3e-2, scale_parameter=True, weight_decay=0.1)
JOINT = (
    Objective(Flipped(), negatives=2, likelihood=1.0, sink=0.5, unlikelihood=2.0, name="flipped"),
    Objective(Direct(), negatives=2, choice=0.7, choice_scale=0.3, normalisation="token", name="direct"),
)
ASKED = [Query("the film was good", " bad"), Query("the film was good", " good film"), Query("is it bad ?", " the")]


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        kind: a model of `tiny`.
        examples: draws of a step: with three, a process has two of them; with one, a process has none.
    """

    kind: str
    objectives: tuple[Objective, ...]
    optimizer: OptimizerSettings
    examples: int = 3
    steps: int = 5
    clip: float | None = 0.5
    precision: str = "fp32"
    lora: bool = False
    frozen_bf16: bool = False
    checkpointing: bool = False
    resume: bool = False
    prior: Any = None
    changes: dict[str, Any] = field(default_factory=dict)

    def network(self) -> PairNetwork:
        tokenizers = {
            "t5": tiny.t5_tokenizer, "untied": tiny.t5_tokenizer, "bart": tiny.bart_tokenizer,
            "bert2bert": tiny.bert_tokenizer, "gpt2": tiny.gpt2_tokenizer, "llama": tiny.llama_tokenizer,
        }  # fmt: skip
        tokenizer = tokenizers[self.kind]()
        if self.kind == "t5":
            tokenizer.add_tokens(["<sink>"], special_tokens=True)
        model = tiny.t5(tied=False) if self.kind == "untied" else getattr(tiny, self.kind)()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        causal = self.kind in ("gpt2", "llama")
        eos = "flipped" if self.kind in ("t5", "untied") else "own"
        conventions = Conventions(eos=eos, slots="sentinels" if eos == "flipped" else "numbered")
        asked = (CausalModel if causal else Seq2SeqModel)(model, tokenizer, name=self.kind, conventions=conventions)
        if self.lora:
            add_adapters(asked, LoraSettings(rank=2), seed=5)
        if self.frozen_bf16:
            for parameter in model.parameters():
                if not parameter.requires_grad:
                    parameter.data = parameter.data.bfloat16()
        lengths = Lengths(20, 20) if self.kind == "bert2bert" else Lengths(32, 30)
        return pair_network(asked, lengths=lengths, gradient_checkpointing=self.checkpointing)

    def train(self, output: Path, *, sharded: bool, lines: Lines) -> PairNetwork:
        made = self.network()
        scores = iter([0.5, 0.7, 0.6, 0.4, 0.3])

        def evaluate() -> Evaluation:
            # The same numbers of every process, or they would wait for one another.
            nats = [answer.nats for answer in made.language_model.log_likelihoods(ASKED)]
            return Evaluation({str(n): value for n, value in enumerate(nats)}, next(scores))

        train(
            made,
            mixture(),
            self.objectives,
            TrainingSettings(
                steps=self.steps, examples_per_step=self.examples, optimizer=self.optimizer, token_budget=48, seed=3,
                clip=self.clip, evaluate_every=2, precision=self.precision, sharded=sharded,
            ),
            output=output, watcher=lines, fingerprint={"recipe": "tiny"}, evaluate=evaluate, prior=self.prior,
            resume=self.resume,
        )  # fmt: skip
        return made


class Told(Lines):
    """Keeps all scores of an evaluation."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path)
        self.scores: list[float] = []

    def evaluated(self, step, scores, chosen) -> None:
        self.scores += scores.values()


CASES = {
    "flipped": Case("t5", (named.flipped(),), ADAMW),
    # Not by Adafactor: no gradient reaches GPT-2's bias of the keys but rounding, which Adafactor scales up.
    "direct": Case("gpt2", (named.direct(),), ADAMW),
    "joint": Case("t5", JOINT, ADAFACTOR, examples=5, prior=lengths_prior),
    "one draw": Case("untied", (named.flipped(),), RELATIVE, examples=1, checkpointing=True),
    "causal adafactor": Case("llama", (named.direct(),), ADAFACTOR, checkpointing=True, clip=None),
    "pair": Case("bert2bert", (named.direct(),), ADAMW),
    "adapters": Case("untied", (named.flipped(),), ADAMW, lora=True),
    "bf16 adapters": Case(
        "llama", (named.direct(),), ADAMW, precision="bf16", lora=True, frozen_bf16=True, checkpointing=True
    ),
}
CUT = ("flipped", "causal adafactor")


# --- two processes ------------------------------------------------------------------------------------------------


def _both(number: int, port: int, folder: Path, chosen: Sequence[str]) -> None:
    """One of two processes: every case in turn."""
    _launch(number, port)
    found: dict[str, dict[str, Any]] = {}
    optimizers: list[torch.optim.Optimizer] = []
    build = loop.build_optimizer
    loop.build_optimizer = lambda *arguments: optimizers.append(build(*arguments)) or optimizers[-1]
    for name in chosen:
        case = CASES[name]
        lines = Told()
        made = case.train(folder / name, sharded=True, lines=lines)
        found[name] = _facts(made, lines)
        kept = [value for state in optimizers[-1].state.values() for value in state.values() if torch.is_tensor(value)]
        found[name]["state"] = _held(kept)
        processes = join_processes(torch.device("cpu"))
        save_pretrained(made, folder / f"{name} model", writes=processes.is_main)
        with sharding.ready_to_score(made):
            found[name]["answers"] = [answer.nats for answer in made.language_model.log_likelihoods(ASKED)]
        if name in CUT:
            replace(case, steps=3).train(folder / f"{name} cut", sharded=True, lines=Told())
            lines = Told()
            replace(case, resume=True).train(folder / f"{name} alone cut", sharded=True, lines=lines)
            found[name]["resumed"] = lines.losses
            keeper = Keeper(folder / name, fingerprint={"recipe": "tiny"}, resume=True, writes=False)
            keeper.load_best(made)
            with sharding.ready_to_score(made):
                found[name]["best answers"] = [a.nats for a in made.language_model.log_likelihoods(ASKED)]
    for settings in (ADAFACTOR, RELATIVE):
        found[f"moved {settings.rate}"] = _moved(settings, divided=True)
    (folder / f"{number}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


class Shapes(torch.nn.Module):
    """Parameters of one to four axes, some with fewer rows than there are processes, or an odd number of them."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        for n, shape in enumerate(((5,), (1,), (7, 3), (1, 6), (3, 4, 5), (2, 2, 3, 4))):
            self.register_parameter(f"p{n}", torch.nn.Parameter(torch.randn(shape, generator=generator)))


def _moved(settings: OptimizerSettings, *, divided: bool) -> dict[str, list[float]]:
    """Where four steps along random gradients lead."""
    made = Shapes()
    if divided:
        fully_shard(made, mesh=init_device_mesh("cpu", (2,)))
    optimizer = build_optimizer(made, settings)
    assert isinstance(optimizer, ShardedAdafactor) is divided
    generator = torch.Generator().manual_seed(2)
    for size in (1.0, 100.0, 1e-3, 1.0):
        for parameter in made.parameters():
            gradient = torch.randn(parameter.shape, generator=generator) * size
            parameter.grad = sharding.divided_like(gradient, parameter) if divided else gradient
        optimizer.step()
    return {name: value.flatten().tolist() for name, value in sharding.whole(dict(made.named_parameters())).items()}


def _launch(number: int, port: int) -> None:
    """What a launcher tells the second of two processes, or the first."""
    torch.set_num_threads(1)
    told = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), ACCELERATE_USE_CPU="true")


def _facts(made: PairNetwork, lines: Told) -> dict[str, Any]:
    parameters = list(made.parameters())
    return {
        "losses": lines.losses,
        "norms": [step["norm"] for step in lines.steps],
        "scores": lines.scores,
        "tokens": [step["tokens"] for step in lines.steps],
        "weights": _held(parameters),
        "divided": all(sharding.is_share(parameter) for parameter in parameters),
    }


def _held(tensors: Sequence[torch.Tensor]) -> tuple[int, int]:
    """How many numbers this process holds of them, and how many they are."""
    held = sum(sharding.own(t).numel() if sharding.is_share(t) else t.numel() for t in tensors)
    return held, sum(t.numel() for t in tensors)


def _launched(target: Any, *arguments: Any) -> list[int | None]:
    """Both processes' exit codes."""
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, sys.path)))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_sharded"])
    port = free_port()
    both = [context.Process(target=target, args=(n, port, *arguments), daemon=True) for n in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(180)
    return [process.exitcode for process in both]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The folder of all runs, what the main process found, and what the other one did."""
    folder = tmp_path_factory.mktemp("runs")
    for name in CUT:  # what both go on from that was trained by one
        replace(CASES[name], steps=3).train(folder / f"{name} alone cut", sharded=False, lines=Told())
    assert _launched(_both, folder, tuple(CASES)) == [0, 0]
    first, second = (json.loads((folder / f"{number}.json").read_text()) for number in range(2))
    return folder, first, second


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Callable[[str], dict[str, Any]]:
    """What one process finds that trains a case without sharding."""
    folder = tmp_path_factory.mktemp("alone")

    @functools.cache
    def facts(name: str) -> dict[str, Any]:
        lines = Told()
        made = CASES[name].train(folder / name, sharded=False, lines=lines)
        answers = [answer.nats for answer in made.language_model.log_likelihoods(ASKED)]
        with Keeper(folder / name, fingerprint={"recipe": "tiny"}, resume=True) as keeper:
            keeper.load_best(made)
        best = [answer.nats for answer in made.language_model.log_likelihoods(ASKED)]
        return {**_facts(made, lines), "answers": answers, "best answers": best}

    return facts


@pytest.mark.parametrize("name", CASES)
def test_divided_weights_train_as_whole_ones_do(name, trained, alone):
    """Draws, and so micro-batches, are not the same number in both processes, and in one case one has none at all."""
    _, found, _ = trained
    expected = alone(name)
    # In bf16 it counts which rows are multiplied together; one process has other micro-batches.
    near = 1e-2 if CASES[name].precision == "bf16" else 1e-5
    assert len(expected["losses"]) == 5
    assert found[name]["losses"] == pytest.approx(expected["losses"], abs=near)
    assert found[name]["norms"] == pytest.approx(expected["norms"], rel=100 * near)
    assert found[name]["scores"] == pytest.approx(expected["scores"], abs=10 * near)
    assert found[name]["answers"] == pytest.approx(expected["answers"], abs=10 * near)
    assert found[name]["tokens"] == expected["tokens"]


@pytest.mark.parametrize("name", CASES)
def test_each_process_holds_half_of_the_numbers(name, trained):
    _, first, second = trained
    for found in (first[name], second[name]):
        assert found["divided"]
        held, in_all = found["weights"]
        assert held == pytest.approx(in_all / 2, rel=0.05)
        if CASES[name].optimizer.name == "adamw":  # Adafactor's factors are small, and both hold them
            held, in_all = found["state"]
            assert held == pytest.approx(in_all / 2, rel=0.05)
    assert first[name]["weights"][0] + second[name]["weights"][0] == first[name]["weights"][1]


@pytest.mark.parametrize("name", CUT)
def test_one_process_goes_on_from_a_checkpoint_of_two_and_the_other_way_round(name, trained, alone):
    folder, found, _ = trained
    lines = Told()
    replace(CASES[name], resume=True).train(folder / f"{name} cut", sharded=False, lines=lines)
    assert lines.from_step == 3
    assert lines.losses == pytest.approx(alone(name)["losses"][3:], abs=1e-5)
    assert found[name]["resumed"] == pytest.approx(alone(name)["losses"][3:], abs=1e-5)


@pytest.mark.parametrize("name", CUT)
def test_the_best_weights_come_back_into_divided_ones(name, trained, alone):
    _, found, other = trained
    assert found[name]["best answers"] == other[name]["best answers"]
    assert found[name]["best answers"] == pytest.approx(alone(name)["best answers"], abs=1e-4)
    assert found[name]["best answers"] != pytest.approx(found[name]["answers"], abs=1e-4)


@pytest.mark.parametrize("name", ["flipped", "direct", "one draw", "adapters"])
def test_the_model_folder_is_a_plain_one(name, trained):
    """Gathered, adapters merged, and one table of embeddings where it was one."""
    folder, found, _ = trained
    model = folder / f"{name} model"
    scored = load_model(str(model), device="cpu").log_likelihoods(ASKED)
    assert [answer.nats for answer in scored] == pytest.approx(found[name]["answers"], abs=1e-4)
    kind = AutoModelForCausalLM if name == "direct" else AutoModelForSeq2SeqLM
    loaded, told = kind.from_pretrained(model, output_loading_info=True)
    assert not any(told.values())
    tied = name in ("flipped", "direct")
    assert (loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight) is tied


def test_the_checkpoints_of_two_processes_are_those_of_one(trained, tmp_path):
    folder, _, _ = trained
    CASES["flipped"].train(tmp_path / "run", sharded=False, lines=Told())
    for step in ("step-00000005", "best"):
        (both, one) = [path / step for path in (folder / "flipped", tmp_path / "run")]
        assert {file.name for file in both.iterdir()} == {file.name for file in one.iterdir()}
        for file in one.glob("*.safetensors"):
            theirs, ours = load_file(file), load_file(both / file.name)
            assert {key: (t.shape, t.dtype) for key, t in ours.items()} == {
                key: (t.shape, t.dtype) for key, t in theirs.items()
            }
            assert all(torch.allclose(ours[key], theirs[key], atol=1e-4) for key in theirs)


@pytest.mark.parametrize("settings", [ADAFACTOR, RELATIVE], ids=["absolute", "relative"])
def test_adafactor_moves_divided_parameters_as_whole_ones(settings, trained):
    _, first, second = trained
    expected = _moved(settings, divided=False)
    for found in (first, second):
        for name, numbers in expected.items():
            assert found[f"moved {settings.rate}"][name] == pytest.approx(numbers, rel=1e-5, abs=1e-6), name


# --- trouble ------------------------------------------------------------------------------------------------------


def _full(number: int, port: int, folder: Path) -> None:
    """One of two processes, of which the second runs out of memory in its second step."""
    _launch(number, port)
    whole_pass, passes = loop._Stepper._pass, []

    def scarce(self, batch):
        passes.append(batch)
        if number == 1 and len(passes) == 4:
            raise torch.OutOfMemoryError("none left")
        return whole_pass(self, batch)

    loop._Stepper._pass = scarce
    told = "nothing"
    try:
        CASES["flipped"].train(folder / "run", sharded=True, lines=Told())
    except ObverseError as error:
        told = str(error)
    (folder / f"{number}.txt").write_text(told)


def test_a_process_that_fails_amid_a_step_leaves_none_waiting(tmp_path):
    assert _launched(_full, tmp_path) == [0, 0]
    first, second = ((tmp_path / f"{number}.txt").read_text() for number in range(2))
    assert "another process ended in the middle of a step" in first
    assert "does not hold a micro-batch of step" in second and "token_budget" in second


def test_one_process_holds_the_whole_model_and_says_so(tmp_path, alone):
    lines = Told()
    CASES["flipped"].train(tmp_path / "run", sharded=True, lines=lines)
    assert lines.losses == alone("flipped")["losses"]
    assert lines.notes == ["sharded: this is the only process, so it holds the whole model"]


def test_networks_that_cannot_be_divided_are_refused():
    """Before the processes meet: there is but one here."""

    def message(made: PairNetwork) -> str:
        with pytest.raises(RecipeError) as told:
            sharding.shard(made, Processes(0, 2, torch.device("cpu")), spare=SPARE, in_bf16=False)
        return str(told.value)

    def bart(**changes) -> PairNetwork:
        conventions = Conventions(eos="own", slots="numbered")
        model = Seq2SeqModel(tiny.bart(), tiny.bart_tokenizer(), name="bart", conventions=conventions)
        return pair_network(model, lengths=Lengths(32, 30), **changes)

    assert "goes without a compiled body" in message(bart(compiled=True))
    dropping = bart()
    dropping.model.model.encoder.layerdrop = 0.1
    assert "leaves out layers by chance" in message(dropping)
    scalar = bart()
    scalar.model.temperature = torch.nn.Parameter(torch.tensor(1.0))
    assert "a single number (model.temperature)" in message(scalar)
    flat = bart()
    for side in (flat.model.model.encoder, flat.model.model.decoder):
        side.layers = torch.nn.ModuleList()
    assert "no list of layers" in message(flat)


def test_layers_are_found_whatever_the_architecture():
    for kind in ("t5", "bart", "bert2bert", "gpt2", "llama"):
        layers = sharding._layers(Case(kind, (), ADAMW).network())
        assert len(layers) == (2 if kind in ("gpt2", "llama") else 4), kind
    # One that shares its weights with another cannot be let go of alone.
    made = Case("gpt2", (), ADAMW).network()
    made.model.transformer.h[1].mlp = made.model.transformer.h[0].mlp
    assert sharding._layers(made) == []


# --- recipes ------------------------------------------------------------------------------------------------------

RECIPE = """\
steps = 5
examples_per_step = 4

[model]
base = "google/t5-v1_1-small"
{model}

[lengths]
given = 32
said = 16

[optimizer]
rate = 1e-3

[[objectives]]
direction = "direct"

[mixture]
tasks = ["rotten_tomatoes"]
"""


def test_a_recipe_says_it_and_no_number_depends_on_it(tmp_path):
    def read(model: str = "") -> Recipe:
        path = tmp_path / "recipe.toml"
        path.write_text(RECIPE.format(model=model))
        return read_recipe(path)

    plain, divided = read(), read("sharded = true")
    assert (plain.model.sharded, divided.model.sharded) == (False, True)
    assert fingerprint(plain) == fingerprint(divided)
    assert "sharded = true" in resolved_toml(divided)
    with pytest.raises(RecipeError, match=r"`model.sharded` goes without compile"):
        read("sharded = true\ncompile = true")
