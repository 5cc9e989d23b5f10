"""From template to token ids to scores: every method and end-of-sequence preset against ids written by hand.

The vocabulary is small enough to read the ids:

    0 <pad>  1 </s>  2 <unk>  3 ▁  4 ▁good  5 ▁bad  6 ▁film  7 ▁the  8 ▁Is  9 ▁or  10 ?  11 ▁input  12 :  13 ▁out
    14 put  15 ▁instruct  16 ion  17 <extra_id_3>  18 <extra_id_2>  19 <extra_id_1>  20 <extra_id_0>

Sentinels count downwards from the last id, as in the released T5 vocabularies.
"""

from __future__ import annotations

import math

import pytest
import sentencepiece
import torch
from sentencepiece import sentencepiece_model_pb2
from transformers import T5Tokenizer

from obverse.labelling import Labeller
from obverse.models.base import Conventions
from obverse.models.seq2seq import Seq2SeqModel
from obverse.queries import Query
from obverse.scoring.scorers import Scorer
from obverse.tasks.directions import Channel, direction
from obverse.tasks.examples import Example
from obverse.tasks.templates import InstructionTemplate
from tiny import seeded, t5

PIECES = ("▁", "▁good", "▁bad", "▁film", "▁the", "▁Is", "▁or", "?", "▁input", ":", "▁out", "put", "▁instruct", "ion")

TEMPLATE = InstructionTemplate("Is {text} good or bad?", ["text"])
EXAMPLE = Example("1", {"text": "the film"})
OPTIONS = ("good", "bad film")

# Without end-of-sequence tokens: option -> (given side, said side).
DIRECT = {
    # "Is the film good or bad?" -> "good" / "bad film"
    "good": ([8, 7, 6, 4, 9, 5, 10], [4]),
    "bad film": ([8, 7, 6, 4, 9, 5, 10], [5, 6]),
}
NULL = {
    # "Is  good or bad?": the input's place is empty, and two spaces are one word mark
    "good": ([8, 4, 9, 5, 10], [4]),
    "bad film": ([8, 4, 9, 5, 10], [5, 6]),
}
CHANNEL = {
    "good": ([4], [8, 7, 6, 4, 9, 5, 10]),
    "bad film": ([5, 6], [8, 7, 6, 4, 9, 5, 10]),
}
MASKED_CHANNEL = {
    # "instruction: <0> Is <1>  good or bad? input: <0>the film<1>"
    "good": ([4], [15, 16, 12, 20, 8, 19, 4, 9, 5, 10, 11, 12, 20, 7, 6, 19]),
    "bad film": ([5, 6], [15, 16, 12, 20, 8, 19, 4, 9, 5, 10, 11, 12, 20, 7, 6, 19]),
}
FLIPPED = {
    # "input: <0>the film<1>\n output: good" -> "<0> Is <1>  good or bad?"
    "good": ([11, 12, 20, 7, 6, 19, 13, 14, 12, 4], [20, 8, 19, 4, 9, 5, 10]),
    "bad film": ([11, 12, 20, 7, 6, 19, 13, 14, 12, 5, 6], [20, 8, 19, 4, 9, 5, 10]),
}
# Preset -> is there an end-of-sequence token (id 1) after the given side, and after the said side.
ENDS = {"t0": (False, True), "flipped": (True, True), "lm-eval": (True, False), "own": (True, True)}


def with_ends(sides, eos):
    after_given, after_said = ENDS[eos]
    return sides[0] + [1] * after_given, sides[1] + [1] * after_said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a `spiece.model` of the pieces above."""
    proto = sentencepiece_model_pb2.ModelProto()
    for text, kind in (("<pad>", 3), ("</s>", 3), ("<unk>", 2)):
        proto.pieces.add(piece=text, score=0.0, type=kind)
    for text in PIECES:
        proto.pieces.add(piece=text, score=-5.0 if text == "▁" else -2.0, type=1)
    proto.trainer_spec.model_type = 1  # unigram
    proto.trainer_spec.pad_id, proto.trainer_spec.eos_id, proto.trainer_spec.unk_id = 0, 1, 2
    proto.trainer_spec.bos_id = -1
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = True
    proto.normalizer_spec.remove_extra_whitespaces = True
    proto.normalizer_spec.escape_whitespaces = True
    path = tmp_path_factory.mktemp("pieces")
    (path / "spiece.model").write_bytes(proto.SerializeToString())
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return T5Tokenizer.from_pretrained(folder, extra_ids=4)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def network(request):
    return seeded(t5(tied=request.param, vocab_size=21), 3, spread=0.6)


def build(network, tokenizer, eos):
    return Seq2SeqModel(network, tokenizer, name="tiny", conventions=Conventions(eos=eos, slots="sentinels"))


def test_the_hand_written_ids_are_sentencepieces_own(folder, tokenizer):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    for sides in (DIRECT, NULL, CHANNEL):
        for option, (given, said) in sides.items():
            texts = {"Is the film good or bad?", "Is  good or bad?", option}
            encoded = [processor.encode(text) for text in texts]
            assert given in encoded
            assert said in encoded
    # Between sentinels each stretch is a text of its own (and a line end a space, which the released files map it to).
    stretches = [processor.encode(s) for s in ("input: ", "the film", " output: bad film")]
    assert [*stretches[0], 20, *stretches[1], 19, *stretches[2]] == FLIPPED["bad film"][0]
    assert tokenizer.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_1>", "</s>"]) == [20, 19, 1]


@pytest.mark.parametrize("eos", ENDS)
@pytest.mark.parametrize(
    ("term", "sides"), [("direct", DIRECT), ("null", NULL), ("channel", CHANNEL), ("flipped", FLIPPED)]
)
def test_token_ids_of_every_term(tokenizer, eos, term, sides):
    model = build(t5(vocab_size=21), tokenizer, eos)
    scorer = Scorer("direct", slots="sentinels")
    for option, query in zip(OPTIONS, scorer.ask(TEMPLATE.render(EXAMPLE), OPTIONS, term), strict=True):
        given, said = with_ends(sides[option], eos)
        assert model.encode(query) == (tuple(given), tuple(said)), query


@pytest.mark.parametrize("eos", ENDS)
def test_token_ids_of_the_masked_channel(tokenizer, eos):
    model = build(t5(vocab_size=21), tokenizer, eos)
    for option in OPTIONS:
        query = Channel(plain=False).query(TEMPLATE.render(EXAMPLE), option)
        given, said = with_ends(MASKED_CHANNEL[option], eos)
        assert model.encode(query) == (tuple(given), tuple(said))


def test_numbered_slots_are_other_tokens(tokenizer):
    model = build(t5(vocab_size=21), tokenizer, "flipped")
    query = direction("flipped", slots="numbered").query(TEMPLATE.render(EXAMPLE), "good")
    assert query == Query("input: [1]the film[2]\n output: good", "\n[1] Is [2]  good or bad?")
    assert not {17, 18, 19, 20} & {i for side in model.encode(query) for i in side}


def test_an_empty_instruction_for_pmi_reads_one_end_token(tokenizer):
    model = build(t5(vocab_size=21), tokenizer, "t0")
    bare = InstructionTemplate("{text}", ["text"]).render(EXAMPLE)
    (query,) = Scorer("pmi").ask(bare, ["good"], "null")
    assert query == Query("", "good")
    assert model.encode(query) == ((1,), (4, 1))


def slow(network, sides):
    """Log-probabilities of the said ids: one query, the network's own forward, a softmax over the whole vocabulary."""
    given, said = sides
    with torch.no_grad():
        logits_SV = network(
            input_ids=torch.tensor([given]), decoder_input_ids=torch.tensor([[0, *said[:-1]]]), use_cache=False
        ).logits[0]
    log_probs_SV = torch.log_softmax(logits_SV.double(), -1)
    return [log_probs_SV[s, token].item() for s, token in enumerate(said)]


def slow_term(network, sides, eos, rule, said_bytes):
    out = []
    for option in OPTIONS:
        nats = slow(network, with_ends(sides[option], eos))
        length = {"sum": 1, "token": len(nats), "byte": said_bytes[option]}[rule]
        out.append(sum(nats) / length)
    return out


def normalised(values):
    total = math.log(sum(math.exp(v) for v in values))
    return [v - total for v in values]


LABEL_BYTES = {"good": 4, "bad film": 8}
PROMPT_BYTES = dict.fromkeys(OPTIONS, len("Is the film good or bad?"))
SAID_BYTES = dict.fromkeys(OPTIONS, len("<extra_id_0> Is <extra_id_1>  good or bad?"))


@pytest.mark.parametrize("rule", ["sum", "token", "byte"])
@pytest.mark.parametrize("eos", ENDS)
def test_scores_of_every_method_equal_a_slow_computation(network, tokenizer, eos, rule):
    slow_terms = {
        "direct": slow_term(network, DIRECT, eos, rule, LABEL_BYTES),
        "null": slow_term(network, NULL, eos, rule, LABEL_BYTES),
        "channel": slow_term(network, CHANNEL, eos, rule, PROMPT_BYTES),
        "flipped": slow_term(network, FLIPPED, eos, rule, SAID_BYTES),
    }
    d, n, f = slow_terms["direct"], slow_terms["null"], slow_terms["flipped"]
    expected = {
        "direct": d,
        "channel": slow_terms["channel"],
        "flipped": f,
        "pmi": [a - b for a, b in zip(d, n, strict=True)],
        "product": [a + b for a, b in zip(normalised(d), normalised(f), strict=True)],
    }
    model = build(network, tokenizer, eos)
    # Another example beside it, so that batches are padded.
    other = Example("2", {"text": "bad film or good film or bad film"})
    for method, scores in expected.items():
        scorer = Scorer(method, dict.fromkeys(("direct", "channel", "flipped"), rule), slots="sentinels")
        row = Labeller(model, scorer, TEMPLATE).score([other, EXAMPLE], [OPTIONS, OPTIONS])[1]
        for term, values in row.terms.items():
            assert values == pytest.approx(slow_terms[term], abs=1e-5), (method, term)
        assert scorer.score(row.terms) == pytest.approx(scores, abs=1e-5), method
        assert abs(scores[0] - scores[1]) > 1e-4, "the options must differ for this to show anything"


def test_explain_shows_the_said_tokens(tokenizer):
    network = t5(vocab_size=21, seed=3)
    model = build(network, tokenizer, "flipped")
    labeller = Labeller(model, Scorer("direct", slots="sentinels"), TEMPLATE)
    tokens, nats = labeller.explain(EXAMPLE, OPTIONS)
    assert tokens == ["<extra_id_0>", "▁Is", "<extra_id_1>", "▁good", "▁or", "▁bad", "?", "</s>"]
    assert nats.shape == (2, 8)
    for row, option in zip(nats, OPTIONS, strict=True):
        assert list(row) == pytest.approx(slow(network, with_ends(FLIPPED[option], "flipped")), abs=1e-5)
