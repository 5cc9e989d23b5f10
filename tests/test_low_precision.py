"""Weights in bf16 and int8, and activations in one step: nearly the same answers, whatever the batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D
from typer.testing import CliRunner

from obverse.cli.main import app
from obverse.errors import ModelError
from obverse.models import low_precision
from obverse.models.base import Conventions
from obverse.models.causal import CausalModel
from obverse.models.counting import CountingModel
from obverse.models.forward import evaluating
from obverse.models.low_precision import lower, set_number_type
from obverse.models.seq2seq import Seq2SeqModel
from obverse.queries import Query
from tiny import bart, bart_tokenizer, gpt2, gpt2_tokenizer, llama, llama_tokenizer, t5, t5_tokenizer

CPU = torch.device("cpu")
QUERIES = [
    Query(given, f" {said}")
    for given in ("the film was", "good", "it was bad the film")
    for said in ("good", "bad", "good film", "bad it was")
]
MODELS = {
    "gpt2": lambda: CausalModel(gpt2(), gpt2_tokenizer(), name="tiny", conventions=Conventions()),
    "llama": lambda: CausalModel(llama(), llama_tokenizer(), name="tiny", conventions=Conventions()),
    "t5": lambda: Seq2SeqModel(t5(), t5_tokenizer(), name="tiny", conventions=Conventions(eos="t0")),
    "bart": lambda: Seq2SeqModel(bart(), bart_tokenizer(), name="tiny", conventions=Conventions(eos="own")),
}


@pytest.fixture
def able(monkeypatch):
    """A processor with all instructions, as far as anybody asks."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
@pytest.mark.parametrize(("number_type", "error"), [("bf16", 0.01), ("int8", 0.02)])
def test_a_layer_gives_nearly_the_same(kind, number_type, error):
    torch.manual_seed(0)
    layer = kind(64, 48) if kind is nn.Linear else kind(48, 64)
    nn.init.normal_(layer.bias)
    given = torch.randn(3, 5, 64)
    exact = layer(given)
    lower(nn.Sequential(layer), number_type)
    found = layer(given)
    assert found.dtype == torch.float32
    assert found.shape == exact.shape
    assert 0 < (found - exact).abs().max() < error * exact.abs().max()
    assert layer(given.bfloat16()).dtype == torch.float32
    # No position knows of another.
    assert torch.equal(layer(given[1:2, 3]), found[1:2, 3]) or number_type == "bf16"


def test_whole_numbers_are_exact_where_the_weights_are():
    layer = nn.Linear(4, 2, bias=False)
    layer.weight.data = torch.tensor([[127.0, -3, 0, 5], [0.5, 63.5, -1, 2]])
    lower(nn.Sequential(layer), "int8")
    assert layer.weight.tolist() == [[127, -3, 0, 5], [1, 127, -2, 4]]
    assert layer.scale_O.tolist() == [1.0, 0.5]
    assert layer(torch.tensor([[127.0, 1, 2, 0]])).tolist() == [[127.0 * 127 - 3, 63.5 + 63.5 - 2]]
    assert layer(torch.zeros(1, 4)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("number_type", "nats"), [("bf16", 0.1), ("int8", 0.5)])
def test_models_answer_nearly_the_same_and_digests_tell_them_apart(able, name, number_type, nats):
    lm = MODELS[name]()
    exact, digest = [a.nats for a in lm.log_likelihoods(QUERIES)], lm.digest()
    lm.set_number_type(number_type)
    answers = [a.nats for a in lm.log_likelihoods(QUERIES)]
    gaps = [abs(a - b) for a, b in zip(answers, exact, strict=True)]
    assert 0 < max(gaps) < nats
    assert lm.digest() != digest
    assert lm.packs if isinstance(lm, Seq2SeqModel) else lm.network.packs
    lm.limit(naive=True)
    assert [a.nats for a in lm.log_likelihoods(QUERIES)] == pytest.approx(answers, abs=nats / 5)


def test_layers_that_somebody_changed_stay():
    layer, other = nn.Linear(4, 4), nn.Linear(4, 4)
    layer.forward = lambda given: given
    lower(nn.Sequential(layer, other), "int8")
    assert type(layer) is nn.Linear
    assert type(other) is low_precision._Int8


def test_fp32_changes_nothing():
    model = gpt2()
    before = {name: id(tensor) for name, tensor in model.named_parameters()}
    set_number_type(model, "fp32", CPU)
    assert {name: id(tensor) for name, tensor in model.named_parameters()} == before


@pytest.mark.parametrize(
    ("number_type", "question"), [("bf16", "_is_avx512_bf16_supported"), ("int8", "_is_vnni_supported")]
)
def test_a_processor_without_the_instructions(monkeypatch, number_type, question):
    monkeypatch.setattr(torch.cpu, question, lambda: False)
    with pytest.raises(ModelError, match=rf"(?s)no instructions for {number_type}.*Leave it out"):
        set_number_type(gpt2(), number_type, CPU)


def test_there_is_no_way_back(able):
    model = gpt2()
    set_number_type(model, "bf16", CPU)
    set_number_type(model, "bf16", CPU)
    for other in ("int8", "fp32"):
        with pytest.raises(ModelError, match=r"(?s)another number type already.*Load the model again"):
            set_number_type(model, other, CPU)


def test_other_refusals():
    with pytest.raises(ModelError, match=r"(?s)unknown number type 'int4'.*int8"):
        set_number_type(gpt2(), "int4", CPU)
    with pytest.raises(ModelError, match=r"(?s)int8 weights are for processors.*--device cpu"):
        set_number_type(gpt2(), "int8", torch.device("cuda"))
    with pytest.raises(ModelError, match="counting has no weights that could be int8"):
        CountingModel().set_number_type("int8")
    CountingModel().set_number_type("fp32")


def test_from_the_command_line(able, tmp_path):
    texts = tmp_path / "texts.csv"
    texts.write_text("text\nThe parcel never came.\nThank you for the quick help!\n", encoding="utf-8")
    command = ["predict", str(texts), "--labels", "complaint,praise", "--method", "flipped"]
    exact = CliRunner().invoke(app, command)
    found = CliRunner().invoke(app, [*command, "--number-type", "int8"])
    assert found.exit_code == 0, found.output
    assert "complaint" in found.output
    assert found.output != exact.output
    wrong = CliRunner().invoke(app, [*command, "--number-type", "int9"])
    assert wrong.exit_code == 2
    assert "int8" in wrong.output


class TestActivations:
    def test_one_step_gives_the_same_numbers_and_leaves_no_trace(self):
        model = gpt2()
        plain = [module for module in model.modules() if type(module) is NewGELUActivation]
        assert plain
        ids = torch.tensor([[3, 1, 4, 1, 5]])
        with torch.inference_mode():
            exact = copy.deepcopy(model).eval()(ids).logits
            with evaluating(model):
                assert all("forward" in vars(module) for module in plain)
                assert torch.allclose(model(ids).logits, exact, atol=1e-5)
        assert not any("forward" in vars(module) for module in plain)

    def test_a_forward_of_somebody_elses_stays(self):
        model = gpt2()
        module = next(module for module in model.modules() if type(module) is NewGELUActivation)
        module.forward = lambda given: given * 0
        own = module.forward
        with evaluating(model):
            assert module.forward is own
        assert module.forward is own
