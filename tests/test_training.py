"""The warm start and the packed model, on a tiny sentence encoder, and the bundled model's own texts."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: E402
from transformers import BertConfig, BertModel, EncoderDecoderModel  # noqa: E402

from obverse.errors import DataError  # noqa: E402
from obverse.models.base import Conventions  # noqa: E402
from obverse.models.bundled import export, load_bundled, pack, quantize  # noqa: E402
from obverse.models.checkpoints import load_model  # noqa: E402
from obverse.models.seq2seq import Seq2SeqModel  # noqa: E402
from obverse.recipes.bundled import (  # noqa: E402
    _is_aside,
    own_examples,
    read_asked_texts,
    read_own_texts,
    split_facet,
)
from obverse.seeds import stream  # noqa: E402
from obverse.tasks.directions import Flipped  # noqa: E402
from obverse.tasks.examples import Example  # noqa: E402
from obverse.tasks.wordings import AskedSource, Facet, WordedSource, read_facets  # noqa: E402
from obverse.training.network import Lengths, pair_network, save_pretrained  # noqa: E402
from obverse.training.warm_start import (  # noqa: E402
    SENTINELS,
    SINK,
    distinguish_marks,
    freeze,
    start_from_unigrams,
    tokenizer_with_sentinels,
    warm_started,
)

BUNDLED = Path(__file__).parents[1] / "bundled"
WORDS = [
    "input",
    ":",
    "output",
    "good",
    "bad",
    "film",
    "the",
    "was",
    "a",
    "very",
    "dull",
    "bright",
    "what",
    "do",
    "you",
    "think",
    "of",
    "it",
    "is",
    "this",
    "text",
    "question",
    "answer",
    "options",
    "or",
    ".",
    "?",
    "(",
    ")",
    ",",
    "'",
    '"',
    "sad",
    "happy",
    "mood",
    "tone",
    "say",
    "which",
]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """A BERT-shaped sentence encoder of two tiny layers, in a folder like the pretrained one's."""
    folder = tmp_path_factory.mktemp("encoder")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    names = [*special, *(f"[unused{i}]" for i in range(SENTINELS + 2)), *dict.fromkeys(WORDS)]
    vocabulary = {name: i for i, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(names), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, hidden_dropout_prob=0.1, pad_token_id=0,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture
def started(encoder):
    """Model, tokenizer and special ids."""
    tokenizer = tokenizer_with_sentinels(encoder)
    torch.manual_seed(1)
    model = warm_started(encoder, decoder_layers=(0, 1))
    special = {"start": tokenizer.cls_token_id, "sink": tokenizer.convert_tokens_to_ids(SINK)}
    model.config.decoder_start_token_id, model.config.eos_token_id = tokenizer.cls_token_id, tokenizer.sep_token_id
    return model, tokenizer, special


def sources():
    facet = Facet(
        "mood", ("what is the mood ?", "which tone is this"), {"up": ("good", "happy"), "down": ("bad", "sad")}
    )
    examples = [
        Example("1", {"text": "the film was very bright"}, "up"),
        Example("2", {"text": "a dull film"}, "down"),
        Example("3", {"text": "bright it is"}, "up"),
        Example("4", {"text": "very very dull"}, "down"),
    ]
    return [WordedSource("mood", examples, facet)]


def jolt(model):
    """Move what is trained, as training would."""
    freeze(model, encoder_layers=1)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape))


def test_sentinels_take_the_vocabularys_unused_places(started):
    _, tokenizer, _ = started
    assert tokenizer("a<extra_id_0>film<extra_id_1>")["input_ids"] == [
        2, tokenizer.convert_tokens_to_ids("a"), 5, tokenizer.convert_tokens_to_ids("film"), 6, 3,
    ]  # fmt: skip
    assert tokenizer.convert_tokens_to_ids(SINK) == 5 + SENTINELS


def test_the_decoder_starts_from_the_encoder_and_shares_its_table(started):
    model, *_ = started
    encoder, decoder = model.encoder.encoder.layer[1], model.decoder.bert.encoder.layer[1]
    assert torch.equal(decoder.crossattention.self.key.weight, encoder.attention.self.key.weight)
    assert torch.equal(decoder.intermediate.dense.weight, encoder.intermediate.dense.weight)
    table = model.encoder.embeddings.word_embeddings.weight
    assert model.decoder.cls.predictions.decoder.weight is table
    assert model.decoder.bert.embeddings.word_embeddings.weight is table


def test_marks_get_directions_of_their_own(started):
    model, tokenizer, _ = started
    ids = list(range(5, 5 + SENTINELS + 1))
    before = model.encoder.embeddings.word_embeddings.weight.clone()
    distinguish_marks(model, tokenizer)
    table = model.encoder.embeddings.word_embeddings.weight
    rows = torch.nn.functional.normalize(table[ids], dim=1)
    assert (rows @ rows.T - torch.eye(len(ids))).abs().max() < 1e-5
    others = [i for i in range(len(tokenizer)) if i not in ids]
    assert torch.equal(table[others], before[others])


def test_the_bias_starts_from_tempered_frequencies(started):
    model, tokenizer, special = started
    sink = special["sink"]
    counts = [0.0] * len(tokenizer)
    counts[40], counts[41], counts[sink] = 60.0, 20.0, 20.0
    start_from_unigrams(model, counts, sink)
    bias = model.decoder.cls.predictions.bias.detach()
    smooth = 0.2 * 100 / len(counts)
    assert float(bias[40] - bias[41]) == pytest.approx(0.7 * math.log((60 + smooth) / (20 + smooth)), abs=1e-5)
    assert float(torch.softmax(bias, 0)[sink]) == pytest.approx(0.2, abs=1e-5)  # the sink's share is met exactly


def test_int8_rows_are_off_by_half_a_step_at_most():
    torch.manual_seed(0)
    weights = torch.randn(7, 33) * torch.logspace(-3, 2, 7)[:, None]
    stored, scale = quantize(weights)
    assert stored.dtype == torch.int8
    assert ((stored.float() * scale[:, None] - weights).abs() <= scale[:, None] * 0.5 + 1e-6).all()


def test_packed_model_scores_like_the_trained_one(started, encoder, tmp_path):
    model, tokenizer, special = started
    original = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    jolt(model)
    # What int8 can hold exactly, so that the comparison is about packing and not about rounding.
    with torch.no_grad():
        for state in (model.state_dict(), original):
            for tensor in state.values():
                if tensor.is_floating_point() and tensor.dim() == 2:
                    stored, scale = quantize(tensor)
                    tensor.copy_(stored.float() * scale[:, None])
    pack(model, original, tokenizer, {"slots": "sentinels", "blend": {"prior": 1.0}}, tmp_path / "mini")
    bundled = load_bundled(tmp_path / "mini", device="cpu")
    query = Flipped().query(sources()[0].draw(random.Random(0)).rendering, "good")
    answer = bundled.log_likelihoods([query], pieces=True)[0]
    model.eval()
    given = tokenizer(query.given, return_tensors="pt")["input_ids"]
    said = tokenizer(query.said.lstrip(), add_special_tokens=False)["input_ids"] + [tokenizer.sep_token_id]
    read = torch.tensor([[special["start"], *said[:-1]]])
    with torch.no_grad():
        log_probs = model(input_ids=given, decoder_input_ids=read).logits[0].log_softmax(-1)
    assert answer.nats == pytest.approx(float(log_probs[range(len(said)), said].sum()), abs=1e-3)
    assert answer.pieces[0] == "<extra_id_0>"
    # A plain transformers folder gives the same numbers.
    export(tmp_path / "mini", tmp_path / "plain")
    plain = load_model(str(tmp_path / "plain"), device="cpu")
    assert plain.log_likelihoods([query])[0].nats == pytest.approx(answer.nats, abs=1e-4)
    assert plain.conventions.method == "product"
    # The prior is the encoder as it was before training.
    untouched = BertModel.from_pretrained(encoder, add_pooling_layer=False).eval()
    untouched.load_state_dict(original)
    vectors = []
    for text in ("the film was dull", "bad"):
        ids = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = untouched(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).last_hidden_state
        vectors.append(torch.nn.functional.normalize(states[0].mean(0), dim=0))
    assert bundled.similarities(["the film was dull"], [["bad", "good"]])[0][0] == pytest.approx(
        float(vectors[0] @ vectors[1]), abs=1e-3
    )


def test_a_model_read_back_from_a_run_is_packed_as_the_one_that_was_trained(started, tmp_path):
    """Loading by class name builds poolers, which the package's shape has no place for."""
    model, tokenizer, _ = started
    original = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    jolt(model)
    trained = Seq2SeqModel(model, tokenizer, name="trained", conventions=Conventions(slots="sentinels"))
    folder = save_pretrained(pair_network(trained, lengths=Lengths(40, 20)), tmp_path / "run")
    read = EncoderDecoderModel.from_pretrained(folder)
    assert any(".pooler." in name for name in read.state_dict())
    stored = []
    for place, each in (("trained", model), ("read", read)):
        pack(each, original, tokenizer, {"slots": "sentinels", "blend": {"prior": 1.0}}, tmp_path / place)
        stored.append((tmp_path / place / "weights.safetensors").read_bytes())
    assert stored[0] == stored[1]
    query = Flipped().query(sources()[0].draw(random.Random(0)).rendering, "good")
    assert load_bundled(tmp_path / "read", device="cpu").log_likelihoods([query])[0].nats < 0


def test_facets_and_own_texts_are_sound():
    """The files that the bundled model is made from: known values, no instruction or wording twice, none reserved."""
    facets = read_facets(BUNDLED / "facets.toml")
    texts = read_own_texts(BUNDLED / "texts")
    assert len(texts) >= 1600
    assert len({line["text"] for line in texts}) == len(texts)
    for name, examples in own_examples(texts).items():
        for example in examples:
            values = facets[name].labels or example.options
            assert example.label in values, (name, example.id)
    for name, facet in facets.items():
        assert len(set(facet.instructions)) == len(facet.instructions), name
        kept, aside = split_facet(facet, 8)
        assert not set(kept.instructions) & set(aside.instructions)


@pytest.mark.parametrize("plan", ["judge.toml", "aside.toml"])
def test_judging_words_are_not_trained_on(plan):
    """No instruction and no label wording that judges the model stands among those it was trained with."""
    facets = read_facets(BUNDLED / "facets.toml")
    asks = [ask for text in read_asked_texts(BUNDLED / "asked") for ask in text.asks]
    judged = tomllib.loads((BUNDLED / plan).read_text())
    data = tomllib.loads((BUNDLED / "data.toml").read_text())
    instructions = {i.casefold() for facet in facets.values() for i in facet.instructions}
    instructions |= {question.casefold() for question, _ in asks}
    wordings = {w.casefold() for facet in facets.values() for words in facet.labels.values() for w in words}
    wordings |= {option.casefold() for _, options in asks for option in options}
    trained = {entry["dataset"] for entry in data["data"]}
    for entry in judged["sets"]:
        assert entry["name"] not in trained
        for wording in entry["wordings"]:
            assert wording["instruction"].casefold() not in instructions
            assert not {label.casefold() for label in wording.get("labels", [])} & wordings


def test_rewordings_are_new_and_known_words_are_trained_on():
    facets = read_facets(BUNDLED / "facets.toml")
    wordings = {w.casefold() for facet in facets.values() for words in facet.labels.values() for w in words}
    asked = {o.casefold() for text in read_asked_texts(BUNDLED / "asked") for _, options in text.asks for o in options}
    for entry in tomllib.loads((BUNDLED / "rewording.toml").read_text())["sets"]:
        assert {label.casefold() for label in entry["known"]} <= wordings, entry["name"]
        new = {label.casefold() for labels in entry["new"] for label in labels}
        assert not new & (wordings | asked), entry["name"]
        assert all(len(labels) == len(entry["values"]) for labels in [entry["known"], *entry["new"]])


def test_asked_texts_are_sound():
    """Texts with questions of their own: many, none twice, each with a right option and different wrong ones."""
    texts = read_asked_texts(BUNDLED / "asked")
    assert len(texts) >= 5000
    assert len({text.text for text in texts}) == len(texts)
    assert all(len({o.casefold() for o in options}) == len(options) for t in texts for _, options in t.asks)
    random = stream(0, "asked")
    source = AskedSource("asked", texts)
    for _ in range(200):
        draw = source.draw(random)
        asked = {options[0] for t in texts if t.id == draw.example_id for _, options in t.asks}
        assert draw.options[draw.gold] in asked
        assert 2 <= len(draw.options) <= 10
    always = AskedSource("asked", texts[:1], most_options=3)
    assert all(len(always.draw(random).options) <= 3 for _ in range(20))


def test_a_contrast_set_is_as_many_texts_and_stays_together(tmp_path):
    plain = {"text": "one", "asks": [["q", "right", "wrong"]]}
    contrast = {
        "texts": [["up", 0], ["down", 1], ["off", 2]],
        "asks": [["way?", ["u", "d", "o"]], ["s", ["1", "2", "3"]]],
    }
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in (plain, contrast)) + "\n")
    assert [(t.id, t.text, t.asks) for t in read_asked_texts(tmp_path)] == [
        ("a/1", "one", (("q", ("right", "wrong")),)),
        ("a/2.1", "up", (("way?", ("u", "d", "o")), ("s", ("1", "2", "3")))),
        ("a/2.2", "down", (("way?", ("d", "u", "o")), ("s", ("2", "1", "3")))),
        ("a/2.3", "off", (("way?", ("o", "u", "d")), ("s", ("3", "1", "2")))),
    ]
    lines = [{**contrast, "texts": [[f"{word} {i}", n] for word, n in contrast["texts"]]} for i in range(100)]
    path.write_text("\n".join(map(json.dumps, lines)))
    texts = read_asked_texts(tmp_path)
    aside = {t.id.partition(".")[0] for t, is_aside in zip(texts, _is_aside(texts, 4), strict=True) if is_aside}
    assert 10 < len(aside) < 40
    assert sum(_is_aside(texts, 4)) == 3 * len(aside)
    for right in (3, -1, "0"):
        path.write_text(json.dumps({**contrast, "texts": [["up", right]]}))
        with pytest.raises(DataError, match="line 1"):
            read_asked_texts(tmp_path)


def test_judged_label_names_met_in_training_are_the_ones_we_state():
    """Labels that a data set names itself, as judged and reported: one is known to be a training wording."""
    facets = read_facets(BUNDLED / "facets.toml")
    wordings = {w.casefold() for facet in facets.values() for words in facet.labels.values() for w in words}
    intents = {str(line["facets"].get("intent")).casefold() for line in read_own_texts(BUNDLED / "texts")}
    figures = json.loads((BUNDLED.parent / "docs" / "results" / "mini.json").read_text())
    judged = {label.casefold() for pair in figures["pairs"] for label in pair["labels"]}
    assert judged & (wordings | intents) == {"weather"}


def test_importing_the_package_loads_no_torch():
    code = "import sys, obverse; assert 'torch' not in sys.modules and 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
