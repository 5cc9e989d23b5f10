"""Loading from folders, every way in which it can fail, conversion, and the conventions file."""

from __future__ import annotations

import json
import os
import pickle
import warnings

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM
from transformers.utils import logging

from obverse.errors import ModelError, OutputError
from obverse.models import checkpoints
from obverse.models.base import Conventions
from obverse.models.causal import CausalModel
from obverse.models.checkpoints import convert, load_model
from obverse.models.conventions import infer_conventions, parse_conventions, read_conventions, write_conventions
from obverse.models.counting import CountingModel
from obverse.models.precision import choose_device, choose_dtype
from obverse.models.seq2seq import Seq2SeqModel
from obverse.queries import Query
from tiny import (
    bart,
    bart_tokenizer,
    bert2bert,
    bert_tokenizer,
    gpt2,
    gpt2_tokenizer,
    sentencepiece_file,
    t5,
    t5_tokenizer,
)

QUERIES = [Query("the film was bad", " good"), Query("the film was bad", " bad film"), Query("good", " bad")]


def save(model, tokenizer, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def as_bin(folder):
    """The same folder with its weights in the old form."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture
def t5_folder(tmp_path):
    return save(t5(), t5_tokenizer(), tmp_path / "tiny-t5")


def nats(model):
    return [answer.nats for answer in model.log_likelihoods(QUERIES)]


@pytest.mark.parametrize(
    ("make", "make_tokenizer", "family", "eos", "slots"),
    [
        (t5, t5_tokenizer, "encoder-decoder", "t0", "sentinels"),
        (lambda: t5(tied=False), t5_tokenizer, "encoder-decoder", "t0", "sentinels"),
        (bart, bart_tokenizer, "encoder-decoder", "own", "numbered"),
        (bert2bert, bert_tokenizer, "encoder-decoder", "own", "numbered"),
        (gpt2, gpt2_tokenizer, "causal", "own", "numbered"),
    ],
    ids=["t5 tied", "t5 untied", "bart", "bert2bert", "gpt2"],
)
def test_a_saved_model_answers_as_it_did(tmp_path, capfd, make, make_tokenizer, family, eos, slots):
    folder = save(make(), make_tokenizer(), tmp_path / "model")
    capfd.readouterr()
    loaded = load_model(str(folder), device="cpu")
    assert capfd.readouterr() == ("", "")
    assert loaded.family == family
    assert loaded.name == str(folder)
    assert (loaded.conventions.eos, loaded.conventions.slots) == (eos, slots)
    kind = CausalModel if family == "causal" else Seq2SeqModel
    before = kind(make(), make_tokenizer(), name="before", conventions=loaded.conventions)
    assert nats(loaded) == pytest.approx(nats(before), abs=1e-5)
    assert loaded.digest() == load_model(str(folder), device="cpu").digest()


def test_counting_and_bad_words():
    assert isinstance(load_model("counting"), CountingModel)
    with pytest.raises(ModelError, match="'eos' cannot be 'T0'"):
        load_model("counting", eos="T0")


def test_overrides(t5_folder):
    loaded = load_model(str(t5_folder), device="cpu", eos="flipped", truncation="reference")
    assert (loaded.conventions.eos, loaded.conventions.truncation) == ("flipped", "reference")
    assert loaded.window.given == 511
    with pytest.raises(ModelError, match="'truncation' cannot be 'half'"):
        load_model(str(t5_folder), truncation="half")


def test_conventions_beside_the_weights_win(t5_folder):
    write_conventions(Conventions(eos="lm-eval", method="channel"), t5_folder)
    loaded = load_model(str(t5_folder), device="cpu")
    assert (loaded.conventions.eos, loaded.conventions.method) == ("lm-eval", "channel")
    assert load_model(str(t5_folder), device="cpu", eos="t0").conventions.eos == "t0"


def test_spiece_model_alone(tmp_path):
    from transformers import T5Tokenizer

    folder = save(t5(vocab_size=160), t5_tokenizer(), tmp_path / "model")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    sentencepiece_file(folder)
    loaded = load_model(str(folder), device="cpu")
    pieces = T5Tokenizer.from_pretrained(folder).convert_ids_to_tokens(
        list(loaded.encode(Query("the film", "good"))[1])
    )
    assert "".join(pieces) == "▁good</s>"
    assert loaded.conventions.slots == "sentinels"


@pytest.mark.parametrize("module", ["sentencepiece", "google.protobuf"])
def test_spiece_model_without_its_packages(tmp_path, monkeypatch, module):
    folder = save(t5(), t5_tokenizer(), tmp_path / "model")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    sentencepiece_file(folder)
    monkeypatch.setattr(checkpoints, "_installed", lambda asked: asked != module)
    with pytest.raises(ModelError, match=r"pip install (sentencepiece|protobuf)$") as caught:
        load_model(str(folder))
    assert module.split(".")[-1] in str(caught.value)


def test_no_such_folder(tmp_path):
    with pytest.raises(ModelError, match="there is no model folder"):
        load_model(str(tmp_path / "absent"))
    with pytest.raises(ModelError, match=r"there is no model folder '\./absent'"):
        load_model("./absent")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match="is a file"):
        load_model(str(file))


def test_hub_out_of_reach_or_without_such_a_model(monkeypatch):
    import huggingface_hub

    def away(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", away)
    with pytest.raises(ModelError, match="hub could not be reached") as caught:
        load_model("someone/absent")
    assert "no route" not in str(caught.value)
    assert caught.value.__suppress_context__

    class RepositoryNotFoundError(Exception):
        pass

    def unknown(*args, **kwargs):
        raise RepositoryNotFoundError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unknown)
    with pytest.raises(ModelError, match="no such model on the hub"):
        load_model("someone/absent")


def test_a_hub_id_is_loaded_from_its_copy(monkeypatch, t5_folder):
    import huggingface_hub

    asked = []

    def copy(name, *, allow_patterns, ignore_patterns):
        asked.append((name, allow_patterns))
        return str(t5_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", copy)
    loaded = load_model("bigscience/T0_tiny", device="cpu")
    assert loaded.conventions.trained == ("direct",)
    assert [name for name, _ in asked] == ["bigscience/T0_tiny"]
    assert not any("bin" in pattern for pattern in asked[0][1])
    as_bin(t5_folder)
    with pytest.raises(ModelError, match="--allow-pickle"):
        load_model("bigscience/T0_tiny")
    asked.clear()
    load_model("bigscience/T0_tiny", device="cpu", allow_pickle=True)
    assert [("*.bin" in patterns) for _, patterns in asked] == [False, True]


def test_folder_without_config(tmp_path):
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load_model(str(tmp_path))


def test_folder_without_tokenizer(t5_folder):
    for file in t5_folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="holds no tokenizer"):
        load_model(str(t5_folder))


def test_folder_without_weights(t5_folder):
    (t5_folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        load_model(str(t5_folder))


def test_old_weights_need_a_word(t5_folder):
    expected = nats(load_model(str(t5_folder), device="cpu"))
    as_bin(t5_folder)
    with pytest.raises(ModelError, match=r"add --allow-pickle, or run `obverse convert"):
        load_model(str(t5_folder))
    assert nats(load_model(str(t5_folder), device="cpu", allow_pickle=True)) == pytest.approx(expected, abs=1e-6)


class Malicious:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (self.mark, "w"))


def test_code_in_old_weights_is_not_run(t5_folder, tmp_path):
    mark = tmp_path / "ran"
    (t5_folder / "model.safetensors").unlink()
    torch.save({"shared.weight": Malicious(str(mark))}, t5_folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="weights cannot be read"):
        load_model(str(t5_folder), allow_pickle=True)
    (t5_folder / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious(str(mark))))
    with pytest.raises(ModelError, match="weights cannot be read"):
        load_model(str(t5_folder), allow_pickle=True)
    assert not mark.exists()


def test_broken_and_incomplete_weights(t5_folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(t5_folder / "model.safetensors")
    del weights["encoder.final_layer_norm.weight"]
    save_file(weights, t5_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 of the model's parameters, encoder\.final_layer_norm\.weight"):
        load_model(str(t5_folder))
    (t5_folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="weights cannot be read"):
        load_model(str(t5_folder))


def test_broken_config_and_tokenizer(t5_folder):
    (t5_folder / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="tokenizer cannot be used"):
        load_model(str(t5_folder))
    (t5_folder / "config.json").write_text('{"model_type": "never-heard-of"}', encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json cannot be used"):
        load_model(str(t5_folder))


def test_encoder_only(tmp_path):
    config = BertConfig(vocab_size=10, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    folder = save(BertForMaskedLM(config), bert_tokenizer(), tmp_path / "bert")
    with pytest.raises(ModelError, match=r"BertForMaskedLM does not write text .it is an encoder only"):
        load_model(str(folder))


def test_loading_leaves_settings_as_they_were(t5_folder, monkeypatch):
    monkeypatch.delenv("DISABLE_SAFETENSORS_CONVERSION", raising=False)
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_model(str(t5_folder), device="cpu")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (verbosity, bars)
    assert "DISABLE_SAFETENSORS_CONVERSION" not in os.environ


@pytest.mark.parametrize("tied", [True, False])
def test_convert(tmp_path, tied):
    folder = as_bin(save(t5(tied=tied), t5_tokenizer(), tmp_path / "old"))
    expected = nats(load_model(str(folder), device="cpu", allow_pickle=True))
    made = convert(str(folder), tmp_path / "deep" / "new")
    assert made == tmp_path / "deep" / "new"
    assert {"model.safetensors", "config.json", "obverse.json", "tokenizer.json"} <= {f.name for f in made.iterdir()}
    assert not list(made.glob("*.bin"))
    assert nats(load_model(str(made), device="cpu")) == pytest.approx(expected, abs=1e-6)
    assert read_conventions(made) == Conventions(eos="t0", slots="sentinels")
    # Nothing but the new folder stands there.
    assert [f.name for f in made.parent.iterdir()] == ["new"]
    with pytest.raises(OutputError, match="exists already"):
        convert(str(folder), made)


def test_convert_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch, t5_folder):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_conventions", full)
    with pytest.raises(OutputError, match="No space left"):
        convert(str(t5_folder), tmp_path / "out" / "new")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(ModelError, match="no folder of its own"):
        convert("counting", tmp_path / "counting")


def test_conventions_file_goes_there_and_back(tmp_path):
    conventions = Conventions(
        eos="t0",
        method="blend",
        trained=("direct", "flipped"),
        length_rules={"flipped": "token"},
        temperatures={"direct/sum": 1.5},
        blend={"direct": 1.0, "prior": 0.5},
        datasets=("a", "b"),
    )
    write_conventions(conventions, tmp_path)
    assert read_conventions(tmp_path) == conventions
    assert read_conventions(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"eoss": "t0"}, "unknown key 'eoss'\nDid you mean 'eos'"),
        ({"eos": "T5"}, "'eos' cannot be 'T5'"),
        ({"eos": 1}, "'eos' must be a text"),
        ({"slots": "letters"}, "'slots' cannot be 'letters'"),
        ({"trained": "direct"}, "'trained' must be a list of texts"),
        ({"temperatures": {"direct/sum": 0}}, "'temperatures': the value of 'direct/sum' must be above 0"),
        ({"blend": {"direct": "much"}}, "'blend': the value of 'direct' must be a number"),
        ({"length_rules": {"direct": 1}}, "'length_rules': the value of 'direct' must be a text"),
        ({"blend": []}, "'blend' must be an object"),
        ([], "must hold one JSON object"),
    ],
)
def test_conventions_that_are_refused(raw, message):
    with pytest.raises(ModelError) as caught:
        parse_conventions(raw, where="obverse.json")
    assert str(caught.value).startswith(f"obverse.json: {message}")


def test_conventions_that_are_not_json(t5_folder):
    (t5_folder / "obverse.json").write_text("{eos", encoding="utf-8")
    with pytest.raises(ModelError, match=r"obverse\.json: cannot be read as JSON"):
        load_model(str(t5_folder))
    (t5_folder / "obverse.json").write_text(json.dumps({"speed": 1}), encoding="utf-8")
    with pytest.raises(ModelError, match="unknown key 'speed'"):
        load_model(str(t5_folder))


@pytest.mark.parametrize(
    ("name", "kind", "sentinels", "eos", "slots", "method"),
    [
        ("seonghyeonye/flipped_3B", "t5", True, "flipped", "sentinels", "flipped"),
        ("/models/flipped_11B/", "t5", True, "flipped", "sentinels", "flipped"),
        ("bigscience/T0_3B", "t5", True, "t0", "sentinels", "direct"),
        ("bigscience/T0pp", "t5", True, "t0", "sentinels", "direct"),
        ("google/t5-v1_1-base", "t5", True, "t0", "sentinels", "direct"),
        ("google/mt5-small", "mt5", False, "t0", "numbered", "direct"),
        ("facebook/bart-base", "bart", False, "own", "numbered", "direct"),
        ("gpt2", "gpt2", False, "own", "numbered", "direct"),
        ("T0k", "gpt2", False, "own", "numbered", "direct"),
    ],
)
def test_inferred_conventions(name, kind, sentinels, eos, slots, method):
    inferred = infer_conventions(name, model_type=kind, has_sentinels=sentinels)
    assert (inferred.eos, inferred.slots, inferred.method) == (eos, slots, method)


def test_a_copy_remembers_that_it_was_flipped():
    inferred = infer_conventions("./mine", model_type="t5", has_sentinels=True, source_name="seonghyeonye/flipped_3B")
    assert inferred.eos == "flipped"


def test_device_and_number_type(monkeypatch):
    assert choose_dtype(torch.device("cpu")) == torch.float32
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ModelError, match="'gpu' is not a device"):
        choose_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="no 'cuda' device"):
        choose_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert choose_dtype(torch.device("cuda")) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert choose_dtype(torch.device("cuda")) == torch.bfloat16
    # T5 overflows in fp16, and so it is chosen nowhere.
    assert choose_dtype(torch.device("mps")) == torch.float32
