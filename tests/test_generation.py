"""Generation: the search on probabilities written by hand, and networks against transformers' own greedy decoding."""

from __future__ import annotations

import copy
import itertools
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders
from transformers import T5Tokenizer

from obverse.errors import ModelError, WindowError
from obverse.models.base import Conventions, Window
from obverse.models.causal import CausalModel
from obverse.models.counting import CountingModel
from obverse.models.generation import Generated, Limits, Saying, search
from obverse.models.sentence_encoder import SentenceEncoderModel
from obverse.models.seq2seq import Seq2SeqModel
from obverse.models.tokens import Tokens
from obverse.queries import Query
from tiny import (
    bart,
    bart_tokenizer,
    bert2bert,
    bert_tokenizer,
    gpt2,
    gpt2_tokenizer,
    llama,
    llama_tokenizer,
    sentencepiece_file,
    t5,
    t5_tokenizer,
)

END = 0


class Scripted(Saying):
    """Next tokens that depend on the last one alone, from a table of probabilities."""

    def __init__(self, table, lasts):
        self.table = table
        self.lasts = lasts

    def best(self, most):
        options = [sorted(self.table[last].items(), key=lambda pair: -pair[1]) for last in self.lasts]
        return [[(token, math.log(p)) for token, p in pairs[:most]] for pairs in options]

    def extended(self, rows, tokens):
        return Scripted(self.table, list(tokens))


# 1 "a", 2 "b c", 3 "\n", 4 "x\n\ny"; the key is the last token, None at the start.
TEXTS = {1: "a", 2: "b c", 3: "\n", 4: "x\n\ny"}
TABLE = {
    None: {1: 0.6, 2: 0.4},
    1: {2: 0.5, END: 0.3, 3: 0.2},
    2: {END: 0.9, 4: 0.1},
    3: {3: 0.8, END: 0.2},
    4: {END: 1.0},
}


def script(*, beams=1, most_tokens=5, stop=(), first=None):
    def text_of(row, ids):
        assert row == 0
        return "".join(TEXTS[i] for i in ids)

    opened = Scripted(TABLE, [first])
    return search(opened, 1, beams=beams, limits=Limits(most_tokens, frozenset({END}), tuple(stop)), text_of=text_of)[0]


def approx(text, probability, tokens, finished):
    return Generated(text, pytest.approx(math.log(probability)), tokens, finished)


def test_greedy_takes_the_likeliest_each_time():
    assert script() == [approx("ab c", 0.6 * 0.5 * 0.9, 3, "end")]
    assert script(most_tokens=2) == [approx("ab c", 0.6 * 0.5, 2, "length")]
    assert script(most_tokens=3) == [approx("ab c", 0.6 * 0.5 * 0.9, 3, "end")]


@pytest.mark.parametrize(
    ("first", "stop", "expected"),
    [
        # Inside a token, which holds more than the stop.
        (None, [" "], approx("ab", 0.3, 2, "stop")),
        # Over the border of two tokens: a|b c
        (None, ["ab"], approx("", 0.3, 2, "stop")),
        # Two tokens that make up the stop.
        (3, ["\n\n"], approx("", 0.64, 2, "stop")),
        # The first place in the text counts, not the first of the list.
        (None, ["c", "b"], approx("a", 0.3, 2, "stop")),
        # Not in the text at all.
        (None, ["z"], approx("ab c", 0.27, 3, "end")),
    ],
)
def test_stop_strings(first, stop, expected):
    assert script(first=first, stop=stop) == [expected]


def test_a_stop_string_in_a_token_that_goes_on_behind_it():
    # b c | x..y: 0.4 * 0.1, cut in the middle of its last token.
    found = script(beams=9, stop=["\n\n"])
    assert approx("b cx", 0.04, 2, "stop") in found
    assert all("\n\n" not in each.text for each in found)


def test_candidates_are_ordered_by_nats_a_token():
    # All sequences of at most 2 tokens: a|b c .30, a|end .18, a|\n .12, b c|end .36, b c|x..y .04
    assert script(beams=9, most_tokens=2) == [
        approx("b c", 0.36, 2, "end"),
        approx("ab c", 0.30, 2, "length"),
        approx("a", 0.18, 2, "end"),
        approx("a\n", 0.12, 2, "length"),
        approx("b cx\n\ny", 0.04, 2, "length"),
    ]


def test_a_narrow_beam_keeps_the_likeliest_beginnings():
    # Step 1 keeps a and b c; step 2 b c|end (.36), which takes a place, and a|b c (.30), which ends with .27.
    assert script(beams=2) == [approx("ab c", 0.27, 3, "end"), approx("b c", 0.36, 2, "end")]


def test_sequences_of_one_text_are_one_candidate():
    table = {None: {1: 0.5, 5: 0.4, 2: 0.1}, 1: {END: 1.0}, 5: {END: 1.0}, 2: {END: 1.0}}
    texts = {1: "a", 5: "a", 2: "b"}
    found = search(
        Scripted(table, [None]),
        1,
        beams=3,
        limits=Limits(3, frozenset({END})),
        text_of=lambda _, ids: "".join(texts[i] for i in ids),
    )
    assert found == [[approx("a", 0.5, 2, "end"), approx("b", 0.1, 2, "end")]]


@pytest.mark.parametrize("bad", [{"most_tokens": 0}, {"stop": [""]}, {"stop": ["a", ""]}])
def test_limits_that_make_no_sense(bad):
    with pytest.raises(ModelError):
        script(**bad)


def test_a_stop_that_is_one_string_is_refused():
    with pytest.raises(ModelError, match="cannot be the texts to stop at"):
        Limits(3, stop="ab")


# The counting model


def test_counting_repeats_what_it_read():
    (answer,) = CountingModel().generate(["a B b"], most_tokens=3)
    # P(b) = 3/1003, then 4/1004, then 5/1005; spelled as it stood first.
    assert answer == approx("B B B", 3 / 1003 * 4 / 1004 * 5 / 1005, 3, "length")
    # Equally frequent: the one read first.
    assert CountingModel().generate(["b a"], most_tokens=2)[0].text == "b b"
    assert CountingModel().generate(["", "a"], most_tokens=2) == [
        Generated("", 0.0, 0, "end"),
        approx("a a", 2 / 1001 * 3 / 1002, 2, "length"),
    ]


def test_counting_stops_and_begins():
    # The beginning is read like the prompt, and not returned.
    (answer,) = CountingModel().generate(["a b"], most_tokens=9, begin_with=" b", stop=[" b b"])
    assert answer == approx("b", 3 / 1003 * 4 / 1004 * 5 / 1005, 3, "stop")


words = st.lists(st.sampled_from("abc"), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(words, st.integers(1, 3), st.integers(1, 4))
def test_a_wide_beam_finds_what_brute_force_finds(read, most_tokens, count):
    model, prompt = CountingModel(), " ".join(read)
    texts = [" ".join(sequence) for sequence in itertools.product(sorted(set(read)), repeat=most_tokens)]
    scored = model.log_likelihoods([Query(prompt, " " + text) for text in texts])
    expected = sorted((answer.nats for answer in scored), reverse=True)[:count]
    (found,) = model.candidates([prompt], count=count, most_tokens=most_tokens, beams=100)
    assert [each.nats for each in found] == pytest.approx(expected)
    assert len({each.text for each in found}) == len(found)
    for each in found:
        assert model.log_likelihoods([Query(prompt, each.text)])[0].nats == pytest.approx(each.nats)
    greedy = model.generate([prompt], most_tokens=most_tokens)
    assert model.candidates([prompt], count=1, most_tokens=most_tokens) == [greedy]


def test_counts_of_candidates():
    with pytest.raises(ModelError, match="0 candidates"):
        CountingModel().candidates(["a"], count=0, most_tokens=1)
    with pytest.raises(ModelError, match="3 candidates cannot be found with 2 beams"):
        CountingModel().candidates(["a"], count=3, beams=2, most_tokens=1)


def test_a_sentence_encoder_says_nothing():
    model = SentenceEncoderModel(torch.nn.Linear(1, 1), None, name="similar")
    with pytest.raises(ModelError, match="similar cannot generate text"):
        model.generate(["a"], most_tokens=1)


# Networks


def byte_level(tokenizer):
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


# name -> network, tokenizer, its class, what the decoder starts from, ends, tokens that may never be said.
MODELS = {
    # 18 to 23 are places of the table that no token has.
    "t5": (t5, t5_tokenizer, Seq2SeqModel, (0,), {1}, {0, 2, *range(14, 24)}),
    "bart": (bart, lambda: byte_level(bart_tokenizer()), Seq2SeqModel, (2, 0), {2}, {0, 1, 3, *range(17, 24)}),
    "bert2bert": (bert2bert, bert_tokenizer, Seq2SeqModel, (2,), {3}, {0, 1, 2}),
    "gpt2": (gpt2, lambda: byte_level(gpt2_tokenizer()), CausalModel, None, {0}, set()),
    "llama": (llama, lambda: byte_level(llama_tokenizer()), CausalModel, None, {2}, {0, 1}),
}
PROMPTS = ["good", "bad film", "the film was good", "good bad bad", "bad", "was it good bad good", "good bad good", ""]


def build(name, *, seed=0, conventions=None, **rest):
    """A tiny model that says different things: the plain ones repeat a word for ever, whatever they read.

    Its output has a table of its own, not tied to the input's; its layer norms are fresh, and no bias on the logits
    outweighs the states.
    """
    make, make_tokenizer, kind, *_ = MODELS[name]
    model = make(seed=seed)
    head = model.get_output_embeddings() or model.decoder.get_output_embeddings()
    generator = torch.Generator().manual_seed(seed)
    head.weight = torch.nn.Parameter(torch.randn(head.weight.shape, generator=generator))
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.reset_parameters()
    if name == "bart":
        model.final_logits_bias /= 4
    return kind(model, make_tokenizer(), name="tiny", conventions=conventions or Conventions(), **rest)


def by_transformers(name, lm, read, most_tokens, start=None):
    """Generated ids of one prompt, from the library's greedy decoding with the same tokens forbidden."""
    _, _, kind, own_start, ends, unsaid = MODELS[name]
    model = copy.deepcopy(lm.model)
    for key in ("forced_eos_token_id", "forced_bos_token_id", "bos_token_id"):
        setattr(model.generation_config, key, None)
    prefix = {} if kind is CausalModel else {"decoder_input_ids": torch.tensor([start or own_start])}
    ids = torch.tensor([read])
    with torch.no_grad():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            num_beams=1,
            max_new_tokens=most_tokens,
            eos_token_id=sorted(ends),
            pad_token_id=0,
            suppress_tokens=sorted(unsaid) or None,
            **prefix,
        )[0].tolist()
    return tuple(out[len(read) if kind is CausalModel else len(start or own_start) :])


def plain_nats(name, lm, read, said, start=None):
    """log P of the generated ids, from one plain forward of the whole network."""
    _, _, kind, own_start, *_ = MODELS[name]
    with torch.no_grad():
        if kind is CausalModel:
            logits = lm.model(input_ids=torch.tensor([[*read, *said]])).logits[0, len(read) - 1 : -1]
        else:
            begin = start or own_start
            logits = lm.model(
                input_ids=torch.tensor([read]), decoder_input_ids=torch.tensor([[*begin, *said[:-1]]])
            ).logits[0, len(begin) - 1 :]
    return sum(float(torch.log_softmax(row, -1)[token]) for row, token in zip(logits, said, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_greedy_equals_transformers_batched_and_one_at_a_time(name):
    kind, ends = MODELS[name][2], MODELS[name][4]
    endings, texts = set(), set()
    for seed in (0, 1, 5, 6, 7, 8):
        lm = build(name, seed=seed, token_budget=24)
        told = []
        answers = lm.generate(PROMPTS, most_tokens=7, progress=told.append)
        assert sum(told) == len(PROMPTS)
        shuffled = random.Random(seed).sample(range(len(PROMPTS)), len(PROMPTS))
        again = lm.generate([PROMPTS[i] for i in shuffled], most_tokens=7)
        for prompt, answer in zip(PROMPTS, answers, strict=True):
            read = lm.encode(Query(prompt, ""))[0]
            said = by_transformers(name, lm, read, 7)
            ended = said[-1] in ends
            assert answer.tokens == len(said), prompt
            assert answer.finished == ("end" if ended else "length")
            assert answer.nats == pytest.approx(plain_nats(name, lm, read, said), abs=1e-4)
            kept = said[:-1] if ended else said
            if kind is CausalModel:
                whole, head = lm.tokenizer.decode([*read, *kept]), lm.tokenizer.decode(list(read))
                special = lm.tokenizer.decode(list(read), skip_special_tokens=True) == ""
                assert special or answer.text == whole[len(head) :]
            else:
                assert answer.text == lm.tokenizer.decode(list(kept))
            (alone,) = lm.generate([prompt], most_tokens=7)
            assert (alone.text, alone.tokens, alone.finished) == (answer.text, answer.tokens, answer.finished)
            assert alone.nats == pytest.approx(answer.nats, abs=1e-4)
            endings.add(answer.finished)
            texts.add(answer.text)
        assert [again[shuffled.index(i)].text for i in range(len(PROMPTS))] == [answer.text for answer in answers]
    # What is compared is worth comparing.
    assert endings == {"end", "length"}
    assert len(texts) >= 15


@pytest.mark.parametrize("name", MODELS)
def test_candidates_do_not_depend_on_batches_and_hold_their_nats(name):
    reference = build(name, seed=8).candidates(PROMPTS, count=3, most_tokens=4)
    for budget in (1, 60):
        lm = build(name, seed=8, token_budget=budget)
        for one, other in zip(lm.candidates(PROMPTS, count=3, most_tokens=4), reference, strict=True):
            assert [each.text for each in one] == [each.text for each in other]
            assert [each.nats for each in one] == pytest.approx([each.nats for each in other], abs=1e-4)
    for found in reference:
        assert len(found) == len({each.text for each in found}) > 0
        assert [each.nats_per_token for each in found] == sorted((each.nats_per_token for each in found), reverse=True)


def test_a_wide_beam_on_a_network_finds_every_sequence():
    lm = build("t5", conventions=Conventions(eos="t0"))
    (found,) = lm.candidates(["the film"], count=400, most_tokens=2)
    by_text = {each.text: each for each in found}
    names = ("good", "bad", "film", "the", "was", "is", "it", "?", "input:", "output:")
    # The end alone, each word and the end, each two words; the lone word mark reads as nothing.
    assert {"", *names, *(f"{a} {b}" for a in names for b in names)} <= set(by_text)
    scored = lm.log_likelihoods([Query("the film", f" {name}") for name in names])
    for name, answer in zip(names, scored, strict=True):
        assert by_text[name].nats == pytest.approx(answer.nats, abs=1e-4)
        assert (by_text[name].tokens, by_text[name].finished) == (2, "end")


@pytest.mark.parametrize(
    ("eos", "read", "start"),
    [("t0", (7, 6), (0,)), ("flipped", (7, 6, 1), (0,)), ("lm-eval", (7, 6, 1), (0,)), ("own", (7, 6, 1), (0,))],
)
def test_presets_decide_what_is_read(eos, read, start):
    lm = build("t5", conventions=Conventions(eos=eos))
    (answer,) = lm.generate(["the film"], most_tokens=5)
    said = by_transformers("t5", lm, read, 5, start)
    assert answer.nats == pytest.approx(plain_nats("t5", lm, read, said, start), abs=1e-4)


def test_presets_decide_what_the_decoder_starts_from():
    for eos, start in (("own", (2, 0)), ("t0", (2,))):
        lm = build("bart", conventions=Conventions(eos=eos))
        read = lm.encode(Query("bad good", ""))[0]
        said = by_transformers("bart", lm, read, 6, start)
        (answer,) = lm.generate(["bad good"], most_tokens=6)
        assert answer.nats == pytest.approx(plain_nats("bart", lm, read, said, start), abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_what_answers_begin_with_is_read_and_not_returned(name):
    kind, own_start = MODELS[name][2], MODELS[name][3]
    lm = build(name)
    (answer,) = lm.generate(["good"], most_tokens=4, begin_with=" bad")
    if kind is CausalModel:
        assert answer == lm.generate(["good bad"], most_tokens=4)[0]
        return
    read, said_bad = lm.encode(Query("good", "bad"))
    start = (*own_start, said_bad[0])
    said = by_transformers(name, lm, read, 4, start)
    assert answer.tokens == len(said)
    assert answer.nats == pytest.approx(plain_nats(name, lm, read, said, start), abs=1e-4)


def test_white_space_at_the_end_of_a_beginning_is_read_as_in_front_of_a_word(tmp_path):
    sentencepiece_file(tmp_path)
    tokenizer = T5Tokenizer.from_pretrained(tmp_path, extra_ids=4)
    (ids,) = Tokens(tokenizer).begun(["<extra_id_0> \n"])
    # Not the sentinel and a lone word mark: the mark belongs to the word.
    assert tokenizer.convert_ids_to_tokens(list(ids)) == ["<extra_id_0>"]
    # Where the space is a token of its own it stays; `Ġgood` would be one token, but what follows is not known.
    assert Tokens(gpt2_tokenizer()).begun(["good ", "good", "good "]) == [(9, 1), (9,), (9, 1)]
    lm = build("bert2bert")
    assert lm.generate(["good"], most_tokens=4, begin_with="bad \n") == lm.generate(
        ["good"], most_tokens=4, begin_with="bad"
    )


def test_special_tokens_are_never_said_and_leave_the_others_probabilities_alone():
    lm = build("bart", seed=1)
    before = lm.generate(["good bad"], most_tokens=6)[0]
    # Padding, and a place of the table that no token has, are by far the likeliest now.
    lm.model.final_logits_bias[0, [1, 20]] = 50.0
    after = lm.generate(["good bad"], most_tokens=6)[0]
    assert after.text == before.text
    assert after.nats < before.nats - 100


def test_encoder_once_and_one_token_a_step():
    lm = build("t5")
    lm._network  # noqa: B018
    read, said = [], []
    network = lm._network
    encode, decode = network.encode, network.decode

    def encoding(ids, mask):
        read.append(tuple(ids.shape))
        return encode(ids, mask)

    def decoding(ids, *rest):
        said.append(ids.shape[1])
        return decode(ids, *rest)

    object.__setattr__(network, "encode", encoding)
    object.__setattr__(network, "decode", decoding)
    answers = lm.candidates(["the film was bad", "good", "good"], count=3, most_tokens=5)
    assert sum(rows for rows, _ in read) == 2
    assert set(said) == {1}
    assert answers[1] == answers[2]


def test_networks_without_a_cache_say_the_same():
    from obverse.models import seq2seq

    fast, slow = build("t5"), build("t5")
    slow.__dict__["_network"] = seq2seq._whole(slow.model)
    for one, other in zip(
        fast.candidates(PROMPTS, count=2, most_tokens=4), slow.candidates(PROMPTS, count=2, most_tokens=4), strict=True
    ):
        assert [each.text for each in one] == [each.text for each in other]
    fast, slow = build("gpt2"), build("gpt2")
    slow.network.shares = False
    for one, other in zip(
        fast.candidates(PROMPTS, count=2, most_tokens=4), slow.candidates(PROMPTS, count=2, most_tokens=4), strict=True
    ):
        assert [each.text for each in one] == [each.text for each in other]


def test_a_long_beginning_that_prompts_share_is_read_once():
    lm = build("gpt2")
    shared = "good bad" * 10
    prompts = [shared + tail for tail in (" good", " bad", " good good", " bad bad good")]
    widths = []
    run = lm.network.run
    lm.network.run = lambda ids, cache, *, keep: widths.append(ids.numel()) or run(ids, cache, keep=keep)
    answers = lm.generate(prompts, most_tokens=3)
    assert max(widths[1:]) < 16 < widths[0]
    for prompt, answer in zip(prompts, answers, strict=True):
        assert build("gpt2").generate([prompt], most_tokens=3)[0].text == answer.text


def test_stop_strings_on_a_network():
    lm = build("gpt2")
    (whole,) = lm.generate(["good bad"], most_tokens=8)
    assert len(whole.text) > 3
    inner = whole.text[2:4]
    (cut,) = lm.generate(["good bad"], most_tokens=8, stop=["zz", inner])
    assert cut.finished == "stop"
    assert cut.text == whole.text[: whole.text.index(inner)]
    assert cut.tokens <= whole.tokens


def test_windows():
    # 24 positions: 22 read, 23 said behind [CLS], the last of which is not read again.
    lm = build("bert2bert")
    lm._frame  # noqa: B018
    answers = lm.generate(["good " * 22, "bad"], most_tokens=500)
    assert all(answer.tokens <= 23 for answer in answers)
    with pytest.raises(WindowError, match="given side of a query has 23"):
        lm.generate(["good", "good " * 23], most_tokens=3)
    with pytest.raises(WindowError, match="begin with has 23 tokens"):
        lm.generate(["good"], most_tokens=3, begin_with="bad " * 23)
    cut = build("bert2bert", conventions=Conventions(truncation="reference"))
    assert cut.generate(["good " * 30], most_tokens=3) == cut.generate(["good " * 22], most_tokens=3)


def test_windows_of_causal_models():
    lm = build("gpt2", seed=3, window=Window(joint=6))
    # 4 tokens read leave room for 2.
    assert lm.generate(["good bad good bad"], most_tokens=9)[0].tokens <= 2
    with pytest.raises(WindowError, match="has 6 tokens, and tiny reads and says at most 6"):
        lm.generate(["good", "good" + " bad" * 5], most_tokens=3)
    cut = build("gpt2", window=Window(joint=6), conventions=Conventions(truncation="reference"))
    # Three may be said, so three are read: the first ones.
    assert cut.generate(["good bad bad good good"], most_tokens=3) == cut.generate(["good bad bad"], most_tokens=3)
    with pytest.raises(WindowError):
        cut.generate(["good bad"], most_tokens=6)


def test_a_causal_model_without_opening_needs_a_prompt():
    tokenizer = byte_level(gpt2_tokenizer())
    tokenizer.eos_token = None
    lm = CausalModel(gpt2(), tokenizer, name="tiny", conventions=Conventions())
    with pytest.raises(ModelError, match="cannot begin without a prompt"):
        lm.generate([""], most_tokens=2)
