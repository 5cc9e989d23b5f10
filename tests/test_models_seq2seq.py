"""Encoder-decoders: token ids written by hand, scores against one plain forward a query."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import T5Tokenizer

from obverse.errors import ModelError, WindowError
from obverse.models.base import Conventions, Window
from obverse.models.seq2seq import Seq2SeqModel
from obverse.queries import Query
from tiny import bart, bart_tokenizer, bert2bert, bert_tokenizer, sentencepiece_file, t5, t5_tokenizer


def build(model, tokenizer, eos="own", **rest):
    truncation = rest.pop("truncation", "fields")
    return Seq2SeqModel(model, tokenizer, name="tiny", conventions=Conventions(eos=eos, truncation=truncation), **rest)


def slow(model, given, said, start):
    """Log-probabilities of `said`, from one forward of the whole network on one row."""
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([given]), decoder_input_ids=torch.tensor([[*start, *said[:-1]]]), use_cache=False
        ).logits[0, len(start) - 1 :]
    return [float(torch.log_softmax(row, -1)[token]) for row, token in zip(logits, said, strict=True)]


T5_QUERY = Query("input: the film\n was  bad", " good film")


@pytest.mark.parametrize(
    ("eos", "given", "said"),
    [
        # input: the film was bad (line ends and double spaces vanish in T5's tokenizer)
        ("t0", (12, 7, 6, 8, 5), (4, 6, 1)),
        ("flipped", (12, 7, 6, 8, 5, 1), (4, 6, 1)),
        ("lm-eval", (12, 7, 6, 8, 5, 1), (4, 6)),
        ("own", (12, 7, 6, 8, 5, 1), (4, 6, 1)),
    ],
)
def test_t5_token_ids_under_every_preset(eos, given, said):
    assert build(t5(), t5_tokenizer(), eos).encode(T5_QUERY) == (given, said)


def test_t5_flipped_format_with_sentinels():
    lm = build(t5(), t5_tokenizer(), "flipped")
    # Text behind a sentinel gains the word mark of its own first word only.
    query = Query("input: film<extra_id_0>bad<extra_id_1>\n output: good", "<extra_id_0> the<extra_id_1> is it?")
    given, said = lm.encode(query)
    assert given == (12, 6, 14, 5, 15, 13, 4, 1)
    assert said[:5] == (14, 7, 15, 9, 10)
    assert said[-1] == 1


@pytest.mark.parametrize(
    ("eos", "given", "said"),
    [
        ("t0", (14, 16), (12, 16, 2)),
        ("flipped", (14, 16, 2), (12, 16, 2)),
        # The space in front of the said text stays: Ġgood, not good.
        ("lm-eval", (14, 16, 2), (15, 16)),
        ("own", (0, 14, 16, 2), (12, 16, 2)),
    ],
)
def test_bart_token_ids_under_every_preset(eos, given, said):
    lm = build(bart(), bart_tokenizer(), eos)
    assert lm.encode(Query("bad bad", " good bad")) == (given, said)


def test_lm_eval_moves_white_space_to_the_said_side_and_the_others_do_not():
    assert build(bart(), bart_tokenizer(), "lm-eval").encode(Query("bad ", "good")) == ((14, 2), (15,))
    assert build(bart(), bart_tokenizer(), "t0").encode(Query("bad ", "good")) == ((14, 4), (12, 2))


def test_bert2bert_token_ids():
    lm = build(bert2bert(), bert_tokenizer())
    assert lm.encode(Query("the films was bad", " good film")) == ((2, 7, 6, 9, 8, 5, 3), (4, 6, 3))
    assert lm.encode(Query("", "good")) == ((2, 3), (4, 3))
    assert lm.count_tokens("the films") == 3


def test_empty_given_side_is_one_eos():
    assert build(t5(), t5_tokenizer(), "t0").encode(Query("", "good")) == ((1,), (4, 1))


def t5_sentencepiece(tmp_path):
    sentencepiece_file(tmp_path)
    return T5Tokenizer.from_pretrained(tmp_path, extra_ids=4)


MODELS = {
    "t5 tied": (lambda: t5(), t5_tokenizer, (0,)),
    "t5 untied": (lambda: t5(tied=False, seed=1), t5_tokenizer, (0,)),
    "bart": (lambda: bart(), bart_tokenizer, (2, 0)),
    "bert2bert": (lambda: bert2bert(), bert_tokenizer, (2,)),
    "bert2bert projected": (lambda: bert2bert(encoder_width=24), bert_tokenizer, (2,)),
}


def some_queries(seed=0, contexts=7):
    rng = random.Random(seed)
    words = ["good", "bad", "film", "the", "was"]

    def text(low, high):
        return " ".join(rng.choice(words) for _ in range(rng.randint(low, high)))

    queries = []
    for _ in range(contexts):
        given = text(1, 9)
        options = [text(1, 5) for _ in range(rng.randint(1, 4))]
        queries += [Query(given, f" {option}") for option in options]
    queries += [queries[0], Query("", " good"), Query("", " bad bad"), Query("film", "")]
    rng.shuffle(queries)
    return queries


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("eos", ["t0", "flipped", "lm-eval", "own"])
def test_scores_equal_one_plain_forward_a_query(name, eos):
    make, make_tokenizer, own_start = MODELS[name]
    model = make()
    lm = build(model, make_tokenizer(), eos, token_budget=40)
    queries = some_queries()
    start = own_start if eos == "own" else own_start[:1]
    for query, likelihood in zip(queries, lm.log_likelihoods(queries), strict=True):
        given, said = lm.encode(query)
        expected = slow(model, given, said, start) if said else []
        assert likelihood.token_nats == pytest.approx(expected, abs=1e-5), query
        assert likelihood.nats == pytest.approx(sum(expected), abs=1e-5)
        assert likelihood.tokens == len(said)
        assert likelihood.cut == 0


def test_tied_and_untied_t5_scale_differently():
    # The trap: both configurations read tie_word_embeddings=True.
    tied, untied = t5(), t5(tied=False)
    assert tied.config.tie_word_embeddings
    assert untied.config.tie_word_embeddings
    assert tied.config.scale_decoder_outputs
    assert not untied.config.scale_decoder_outputs
    assert tied.lm_head.weight is tied.shared.weight
    assert untied.lm_head.weight is not untied.shared.weight


@pytest.mark.parametrize("name", MODELS)
def test_what_is_said_about_a_context_is_one_row_of_the_decoder(name, monkeypatch):
    make, make_tokenizer, _ = MODELS[name]
    lm = build(make(), make_tokenizer(), "t0")
    assert lm.packs
    rows = []
    plain = lm._network.decode_tree

    def counting(laid, hidden, mask):
        rows.append((laid.ids_BS.shape, len(hidden)))
        return plain(laid, hidden, mask)

    object.__setattr__(lm._network, "decode_tree", counting)
    options = ["good", "bad", "good film", "was the film"]
    queries = [Query(given, f" {said}") for given in ("the film", "film was bad", "it") for said in options]
    answers = [a.token_nats for a in lm.log_likelihoods(queries)]
    # The start, and of every option the tokens that another one follows: good, bad, good's film, was, the, film.
    assert len(rows) == 1
    assert rows[0] == (((3, 7), 3) if name != "bart" else ((3, 20), 3))  # BART's tokens are letters here
    lm.limit(naive=True)
    for a, b in zip(answers, lm.log_likelihoods(queries), strict=True):
        assert a == pytest.approx(b.token_nats, abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_other_options_for_each_context_and_more_than_one_row_holds(name, monkeypatch):
    monkeypatch.setattr("obverse.models.seq2seq._ROW", 9)
    make, make_tokenizer, _ = MODELS[name]
    queries = some_queries(5, contexts=9)
    lm = build(make(), make_tokenizer(), "own", token_budget=64)
    answers = [a.token_nats for a in lm.log_likelihoods(queries)]
    lm.limit(naive=True)
    for a, b in zip(answers, lm.log_likelihoods(queries), strict=True):
        assert a == pytest.approx(b.token_nats, abs=1e-5)


def test_rows_are_no_longer_than_the_table_of_positions():
    lm = build(bart(), bart_tokenizer(), "own")
    assert lm.model.config.max_position_embeddings == 64
    letters = "goda"
    said = [a + b + c + d for a in letters for b in letters for c in letters for d in letters]
    queries = [Query("good", f" {text}") for text in said]
    answers = [a.token_nats for a in lm.log_likelihoods(queries)]
    lm.limit(naive=True)
    for a, b in zip(answers, lm.log_likelihoods(queries), strict=True):
        assert a == pytest.approx(b.token_nats, abs=1e-5)


def _kin(kind, **rest):
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    widths = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64}
    layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ids = {"vocab_size": bart().config.vocab_size, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    config = AutoConfig.for_model(kind, **widths, **layers, **ids, forced_eos_token_id=None, **rest)
    torch.manual_seed(0)
    return AutoModelForSeq2SeqLM.from_config(config).eval()


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", ["mbart", "pegasus", "marian", "blenderbot", "plbart"])
def test_the_kin_of_bart_pack_too(kind, scaled):
    lm = build(_kin(kind, scale_embedding=scaled), bart_tokenizer(), "t0")
    assert lm.packs
    queries = some_queries(6)
    answers = [a.token_nats for a in lm.log_likelihoods(queries)]
    lm.limit(naive=True)
    for a, b in zip(answers, lm.log_likelihoods(queries), strict=True):
        assert a == pytest.approx(b.token_nats, abs=1e-5)


def test_a_decoder_that_makes_something_else_of_a_tree_is_not_packed(monkeypatch):
    def blind(decoder, rows, hidden, mask, mask_UHSS, **read):
        return decoder(
            attention_mask=None, encoder_hidden_states=hidden, encoder_attention_mask=mask, use_cache=False, **read
        ).last_hidden_state

    monkeypatch.setattr("obverse.models.seq2seq._decoded", blind)
    lm = build(t5(), t5_tokenizer(), "t0")
    assert not lm.packs
    monkeypatch.undo()
    queries = some_queries(4)
    answers = lm.log_likelihoods(queries)
    assert lm.work.unshared == len(queries)
    for a, b in zip(answers, build(t5(), t5_tokenizer(), "t0").log_likelihoods(queries), strict=True):
        assert a.token_nats == pytest.approx(b.token_nats, abs=1e-5)


def test_a_class_without_a_route_of_its_own_gives_the_same_numbers():
    model = t5()
    queries = some_queries(3)
    fast = build(model, t5_tokenizer(), "t0")
    slower = build(model, t5_tokenizer(), "t0")
    from obverse.models import seq2seq

    slower.__dict__["_network"] = seq2seq._whole(model)
    assert not slower._network.shares
    assert fast._network.shares
    for a, b in zip(fast.log_likelihoods(queries), slower.log_likelihoods(queries), strict=True):
        assert a.token_nats == pytest.approx(b.token_nats, abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_answers_do_not_depend_on_order_or_batch_size(name):
    make, make_tokenizer, _ = MODELS[name]
    model, tokenizer = make(), make_tokenizer()
    queries = some_queries(1, contexts=12)
    reference = {q: a.nats for q, a in zip(queries, build(model, tokenizer).log_likelihoods(queries), strict=True)}
    for budget in (1, 17, 100_000):
        for seed in range(2):
            shuffled = list(queries)
            random.Random(seed).shuffle(shuffled)
            answers = build(model, tokenizer, token_budget=budget).log_likelihoods(shuffled)
            for query, answer in zip(shuffled, answers, strict=True):
                assert answer.nats == pytest.approx(reference[query], abs=1e-4)


def test_small_blocks_change_nothing(monkeypatch):
    model, queries = t5(), some_queries(2)
    expected = [a.nats for a in build(model, t5_tokenizer(), "t0").log_likelihoods(queries)]
    monkeypatch.setattr("obverse.models.seq2seq._BLOCK_ROWS", 3)
    monkeypatch.setattr("obverse.models.work._HEAD_CPU", 24 * 2)
    answers = build(model, t5_tokenizer(), "t0").log_likelihoods(queries)
    assert [a.nats for a in answers] == pytest.approx(expected, abs=1e-5)


def test_each_context_is_encoded_once(monkeypatch):
    lm = build(t5(), t5_tokenizer(), "t0")
    read = []
    assert lm.packs  # which reads something by itself
    network = lm._network
    plain = network.encode

    def counting(ids, mask):
        read.append(int((ids != 0).sum()))
        return plain(ids, mask)

    object.__setattr__(network, "encode", counting)
    lm.log_likelihoods([Query("the film was bad", f" {w}") for w in ("good", "bad", "it", "good film", "bad")])
    assert read == [4]


def test_sentencepiece_tokenizer_from_its_file(tmp_path):
    tokenizer = t5_sentencepiece(tmp_path)
    model = t5(vocab_size=len(tokenizer))
    lm = build(model, tokenizer, "flipped")
    given, said = lm.encode(Query("the film<extra_id_0>", " good"))
    pieces = tokenizer.convert_ids_to_tokens(list(given))
    assert pieces[-2:] == ["<extra_id_0>", "</s>"]
    assert "".join(pieces[:-2]) == "▁the▁film"
    assert "".join(tokenizer.convert_ids_to_tokens(list(said[:-1]))) == "▁good"
    assert lm.log_likelihoods([Query("the film<extra_id_0>", " good")])[0].token_nats == pytest.approx(
        slow(model, given, said, (0,)), abs=1e-5
    )


def test_pieces_and_progress():
    lm = build(t5(), t5_tokenizer(), "t0")
    told = []
    queries = [Query("the film", " good"), Query("the film", " bad film"), Query("it", " bad"), Query("it", " bad")]
    answers = lm.log_likelihoods(queries, progress=told.append, pieces=True)
    assert [a.pieces for a in answers] == [
        ("▁good", "</s>"),
        ("▁bad", "▁film", "</s>"),
        ("▁bad", "</s>"),
        ("▁bad", "</s>"),
    ]
    assert sum(told) == 4
    assert lm.log_likelihoods(queries)[0].pieces == ()
    assert lm.log_likelihoods([]) == []


def test_window_is_read_off_the_configuration():
    assert build(t5(), t5_tokenizer(), "t0").window == Window()
    # 24 positions less [CLS] and [SEP]; [CLS] and 23 words read, [SEP] scored behind the last.
    assert build(bert2bert(), bert_tokenizer()).window == Window(given=22, said=23)
    # 64 positions less <s> and </s>; </s>, <s> and 62 words read.
    assert build(bart(), bart_tokenizer()).window == Window(given=62, said=62)
    assert build(t5(), t5_tokenizer(), "flipped", truncation="reference").window == Window(given=511, said=127)


def test_the_longest_query_that_fits_is_answered():
    lm = build(bert2bert(), bert_tokenizer())
    answer = lm.log_likelihoods([Query("good " * 22, "bad " * 23)])[0]
    assert answer.tokens == 24


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (Query("good " * 23, "bad"), "given side of a query has 23"),
        (Query("good", "bad " * 24), "said side of a query has 24"),
    ],
)
def test_a_query_that_does_not_fit_names_side_and_counts(query, said):
    lm = build(bert2bert(), bert_tokenizer())
    lm._network  # noqa: B018
    told = []
    with pytest.raises(WindowError, match=said):
        # Found before anything is computed.
        lm.log_likelihoods([Query("good", "bad"), query], progress=told.append)
    assert told == []
    with pytest.raises(WindowError, match=said):
        lm.encode(query)


def test_reference_truncation_cuts_from_the_right_and_counts():
    model = t5()
    lm = build(model, t5_tokenizer(), "flipped", truncation="reference", window=Window(given=3, said=2))
    query = Query("the film was bad it", "good film is")
    assert lm.encode(query) == ((7, 6, 8, 1), (4, 6, 1))
    answer = lm.log_likelihoods([query])[0]
    assert answer.cut == 3
    assert answer.token_nats == pytest.approx(slow(model, (7, 6, 8, 1), (4, 6, 1), (0,)), abs=1e-5)


def test_bart_leading_mark_is_read_and_not_scored():
    # Fine-tuned BARTs are trained on decoder inputs </s> <s> words.
    lm = build(bart(), bart_tokenizer())
    assert lm._frame.start == (2, 0)
    assert build(bart(), bart_tokenizer(), "t0")._frame.start == (2,)
    assert build(bert2bert(), bert_tokenizer())._frame.start == (2,)


def test_digest_follows_weights_and_conventions():
    one = build(t5(), t5_tokenizer(), "t0").digest()
    assert len(one) == 16
    assert int(one, 16) >= 0
    assert build(t5(), t5_tokenizer(), "t0").digest() == one
    assert build(t5(seed=5), t5_tokenizer(), "t0").digest() != one
    assert build(t5(), t5_tokenizer(), "flipped").digest() != one


def test_unknown_preset_and_missing_start():
    with pytest.raises(ModelError, match="preset 'T0'"):
        build(t5(), t5_tokenizer(), "T0")
    model = t5()
    model.config.decoder_start_token_id = None
    model.generation_config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="decoder starts from"):
        build(model, t5_tokenizer(), "t0")
