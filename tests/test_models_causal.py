"""Causal models: where the border lies, and scores against one plain forward a query."""

from __future__ import annotations

import random
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from obverse.errors import ModelError, WindowError
from obverse.models import causal
from obverse.models.base import Conventions, Window
from obverse.models.causal import CausalModel
from obverse.queries import Query
from tiny import gpt2, gpt2_tokenizer, llama, llama_tokenizer, seeded

MODELS = {"gpt2": (gpt2, gpt2_tokenizer), "llama": (llama, llama_tokenizer)}


SMALL = {
    "vocab_size": 24,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
FAMILIES = {
    "gpt2": lambda: seeded(GPT2LMHeadModel(GPT2Config(vocab_size=24, n_embd=16, n_layer=2, n_head=2, n_positions=128))),
    "llama": lambda: seeded(LlamaForCausalLM(LlamaConfig(**SMALL, intermediate_size=32, num_key_value_heads=1))),
    "qwen2": lambda: seeded(Qwen2ForCausalLM(Qwen2Config(**SMALL, intermediate_size=32, num_key_value_heads=2))),
    "qwen3": lambda: seeded(
        Qwen3ForCausalLM(Qwen3Config(**SMALL, intermediate_size=32, num_key_value_heads=2, head_dim=8))
    ),
    "mistral": lambda: seeded(MistralForCausalLM(MistralConfig(**SMALL, intermediate_size=32, num_key_value_heads=1))),
    "opt": lambda: seeded(OPTForCausalLM(OPTConfig(**SMALL, ffn_dim=32, word_embed_proj_dim=16))),
}


def build(model, tokenizer, *, truncation="fields", **rest):
    return CausalModel(model, tokenizer, name="tiny", conventions=Conventions(truncation=truncation), **rest)


def slow(model, given, said):
    """Log-probabilities of `said`, from one forward of the whole network on one row."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*given, *said]]), use_cache=False).logits[0]
    rows = logits[len(given) - 1 : -1]
    return [float(torch.log_softmax(row, -1)[token]) for row, token in zip(rows, said, strict=True)]


@pytest.mark.parametrize(
    ("given", "said", "expected"),
    [
        # good Ġbad | Ġgood
        ("good bad", " good", ((9, 13), (12,))),
        # White space at the end of the given text joins the said text.
        ("good bad ", "good", ((9, 13), (12,))),
        # No BOS: an empty given side starts from the EOS.
        ("", "good bad", ((0,), (9, 13))),
        ("", " good", ((0,), (12,))),
        # go | od would be one token, good: it is said, or nothing would be.
        ("go", "od", ((0,), (9,))),
        # good Ġ go | od bad is good Ġgood Ġbad: nothing lies behind the three tokens of the given text, so all that
        # differs is said.
        ("good go", "od bad", ((9,), (12, 13))),
        # Here one token does lie behind them, and the harness's rule stands.
        ("good go", "od bad good", ((9, 12, 13), (12,))),
        ("good", "", ((9,), ())),
    ],
)
def test_gpt2_token_ids(given, said, expected):
    assert build(gpt2(), gpt2_tokenizer()).encode(Query(given, said)) == expected


@pytest.mark.parametrize(
    ("given", "said", "expected"),
    [
        # The tokenizer's own BOS in front, once.
        ("good bad", " good", ((1, 11, 15), (14,))),
        ("", "good", ((1,), (11,))),
    ],
)
def test_llama_token_ids(given, said, expected):
    assert build(llama(), llama_tokenizer()).encode(Query(given, said)) == expected


def some_queries(seed=0, contexts=8, stem=""):
    rng = random.Random(seed)

    def text(low, high):
        return " ".join(rng.choice(["good", "bad", "go", "ad", "dob"]) for _ in range(rng.randint(low, high)))

    queries = []
    for _ in range(contexts):
        given = stem + text(1, 6)
        queries += [Query(given, f" {text(1, 4)}") for _ in range(rng.randint(1, 4))]
    queries += [queries[0], Query(stem, " good"), Query(stem + "bad", "")]
    rng.shuffle(queries)
    return queries


STEMS = {"no stem": "", "stem": "good bad bad good bad good good bad good bad bad good bad good good bad good bad "}


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("name", MODELS)
def test_scores_equal_one_plain_forward_a_query(name, stem):
    make, make_tokenizer = MODELS[name]
    model = make()
    lm = build(model, make_tokenizer(), token_budget=60)
    queries = some_queries(stem=STEMS[stem])
    answers = lm.log_likelihoods(queries)
    assert lm._network.shares
    for query, likelihood in zip(queries, answers, strict=True):
        given, said = lm.encode(query)
        expected = slow(model, given, said)
        assert likelihood.token_nats == pytest.approx(expected, abs=1e-5), query
        assert likelihood.nats == pytest.approx(sum(expected), abs=1e-5)
        assert likelihood.tokens == len(said)


@pytest.mark.parametrize("name", MODELS)
def test_answers_do_not_depend_on_order_or_batch_size(name):
    make, make_tokenizer = MODELS[name]
    model, tokenizer = make(), make_tokenizer()
    queries = some_queries(1, contexts=12) + some_queries(2, contexts=5, stem=STEMS["stem"])
    reference = {q: a.nats for q, a in zip(queries, build(model, tokenizer).log_likelihoods(queries), strict=True)}
    for budget in (1, 23, 100_000):
        lm = build(model, tokenizer, token_budget=budget)
        shuffled = list(queries)
        random.Random(budget).shuffle(shuffled)
        for query, answer in zip(shuffled, lm.log_likelihoods(shuffled), strict=True):
            assert answer.nats == pytest.approx(reference[query], abs=1e-4)
        for query in shuffled[:3]:
            assert lm.log_likelihoods([query])[0].nats == pytest.approx(reference[query], abs=1e-4)


def test_a_network_that_bends_its_logits_is_run_whole():
    # As Gemma 2 does: the logits are not plainly the head applied to the last states.
    class Bent(type(gpt2())):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = torch.tanh(out.logits / 3) * 3
            return out

    model = gpt2()
    model.__class__ = Bent
    lm = build(model, gpt2_tokenizer())
    queries = some_queries(4)
    for query, likelihood in zip(queries, lm.log_likelihoods(queries), strict=True):
        assert likelihood.token_nats == pytest.approx(slow(model, *lm.encode(query)), abs=1e-5)
    assert not lm._network.shares


def test_shared_contexts_are_read_once():
    model = gpt2()
    lm = build(model, gpt2_tokenizer())
    lm._network  # noqa: B018 (its probe reads tokens too)
    read = []
    model.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: read.append((args or [kwargs["input_ids"]])[0].numel()), with_kwargs=True
    )
    given = "good bad " * 10 + "bad"
    lm.log_likelihoods([Query(given, f" {option}") for option in ("good", "bad", "good bad", "bad bad good")])
    # 21 tokens of context and 3 behind it: the last token of an option is never read, and what two options begin with
    # is read once.
    assert read == [24]
    # The same contexts again, with so small a batch that the beginning is stored and each option stands apart.
    lm = build(model, gpt2_tokenizer(), token_budget=4)
    lm._network  # noqa: B018
    read.clear()
    options = [f" {a} {b} {c}" for a in ("good", "bad", "do") for b in ("good", "bad") for c in ("good", "bad")]
    lm.log_likelihoods([Query("good bad " * 20 + "bad", option) for option in options])
    assert read[0] == 41
    # " do" is three tokens, too few to be stored: they are read in front of both tokens that may follow.
    assert sum(read) == 41 + 3 + 3 + 2 * 4


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("budget", [1, 7, 40, 10_000])
def test_every_family_packs_and_answers_alike(name, budget):
    model = FAMILIES[name]()
    tokenizer = gpt2_tokenizer()
    lm = build(model, tokenizer, token_budget=budget)
    rng = random.Random(3)
    stem = "good bad " * 20
    queries = []
    for _ in range(12):
        given = stem * rng.randint(0, 1) + " ".join(rng.choice(["good", "bad"]) for _ in range(rng.randint(1, 9)))
        queries += [Query(given, f" {'good bad ' * rng.randint(0, 2)}{a} bad") for a in ("good", "bad", "go", "do")]
    assert lm._network.packs
    for query, likelihood in zip(queries, lm.log_likelihoods(queries), strict=True):
        assert likelihood.token_nats == pytest.approx(slow(model, *lm.encode(query)), abs=1e-5)


def test_what_a_network_does_not_support_is_run_in_stages():
    model = gpt2()
    usual = model.transformer.h[0].attn.forward

    def forward(states, *args, tree=None, **kwargs):
        out = usual(states, *args, tree=tree, **kwargs)
        return (out[0] * 2, *out[1:]) if tree is not None else out

    model.transformer.h[0].attn.forward = forward
    lm = build(model, gpt2_tokenizer())
    queries = some_queries()
    answers = lm.log_likelihoods(queries)
    assert not lm._network.packs
    assert lm._network.shares
    for query, likelihood in zip(queries, answers, strict=True):
        assert likelihood.token_nats == pytest.approx(slow(model, *lm.encode(query)), abs=1e-5)


def test_a_sliding_window_is_not_packed_over():
    config = MistralConfig(**SMALL, num_key_value_heads=1, sliding_window=8)
    model = seeded(MistralForCausalLM(config))
    lm = build(model, gpt2_tokenizer())
    queries = [Query("good bad " * n, f" {o} bad") for n in (1, 3, 6) for o in ("good", "bad")]
    for query, likelihood in zip(queries, lm.log_likelihoods(queries), strict=True):
        assert likelihood.token_nats == pytest.approx(slow(model, *lm.encode(query)), abs=1e-5)


def test_stored_beginnings_serve_the_next_block_but_not_the_next_call(monkeypatch):
    monkeypatch.setattr(causal, "_BLOCK_ROWS", 12)
    model = gpt2()
    lm = build(model, gpt2_tokenizer(), token_budget=30)
    lm._network  # noqa: B018
    read = []
    model.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: read.append((args or [kwargs["input_ids"]])[0].numel()), with_kwargs=True
    )

    def asked(words):
        return [Query(f"{'good bad ' * 20}{word} bad", f" {o} good") for word in words for o in ("good", "bad")]

    def check(queries):
        for query, likelihood in zip(queries, lm.log_likelihoods(queries), strict=True):
            assert likelihood.token_nats == pytest.approx(slow(model, *lm.encode(query)), abs=1e-5)

    two_blocks = asked(["good", "bad", "go", "do", "a", "b", "god", "dog", "ab", "ba", "gob", "bog"])
    lm.log_likelihoods(two_blocks)
    assert [tokens for tokens in read if tokens >= 40] == [40]
    check(two_blocks)
    # In whatever way weights change, with dropout on or not.
    model.transformer.h[0].mlp.c_fc.weight.data.mul_(1.5)
    model.train()
    answers = lm.log_likelihoods(asked(["good"]))
    assert model.training
    model.eval()
    assert [a.nats for a in answers] == pytest.approx([a.nats for a in lm.log_likelihoods(asked(["good"]))], abs=1e-5)
    check(asked(["good", "bad"]))


def test_threads_share_a_model():
    model = llama()
    lm = build(model, llama_tokenizer(), token_budget=30)
    queries = some_queries()
    expected = [answer.nats for answer in lm.log_likelihoods(queries)]
    usual = model.config._attn_implementation
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda _: [a.nats for a in lm.log_likelihoods(queries)], range(9)))
    finally:
        sys.setswitchinterval(before)
    for nats in found:
        assert nats == pytest.approx(expected, abs=1e-5)
    assert model.config._attn_implementation == usual


def test_texts_beyond_the_border_of_longrope_are_read_apart():
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
    config = Phi3Config(
        **(SMALL | {"pad_token_id": 0, "max_position_embeddings": 128}),
        intermediate_size=32,
        num_key_value_heads=2,
        original_max_position_embeddings=16,
        rope_parameters=rope | {"original_max_position_embeddings": 16},
    )
    model = seeded(Phi3ForCausalLM(config))
    queries = [Query("good bad " * n, f" {o} bad") for n in (2, 5, 12, 30) for o in ("good", "bad")]
    together = build(model, gpt2_tokenizer()).log_likelihoods(queries)
    for query, likelihood in zip(queries, together, strict=True):
        lm = build(model, gpt2_tokenizer())
        lm.limit(naive=True)
        assert likelihood.token_nats == pytest.approx(lm.log_likelihoods([query])[0].token_nats, abs=1e-5)


def test_pieces_progress_and_repetitions():
    lm = build(gpt2(), gpt2_tokenizer())
    told = []
    answers = lm.log_likelihoods(
        [Query("good", " bad"), Query("good", " bad"), Query("good ", "bad")], progress=told.append, pieces=True
    )
    assert [a.pieces for a in answers] == [("Ġbad",)] * 3
    assert sum(told) == 3


def test_window():
    lm = build(gpt2(), gpt2_tokenizer())
    assert lm.window == Window(joint=64)
    assert build(llama(), llama_tokenizer()).window == Window(joint=63)
    fits = Query("good" + " good" * 60, " bad bad bad")
    assert lm.log_likelihoods([fits])[0].tokens == 3
    told = []
    with pytest.raises(WindowError, match=r"61 given and 4 said tokens.*at most 64"):
        lm.log_likelihoods([Query("good", " bad"), Query(fits.given, fits.said + " bad")], progress=told.append)
    assert told == []


def test_reference_truncation():
    model = gpt2()
    lm = build(model, gpt2_tokenizer(), truncation="reference", window=Window(joint=5))
    query = Query("good bad bad bad", " good good")
    assert lm.encode(query) == ((9, 13, 13), (12, 12))
    answer = lm.log_likelihoods([query])[0]
    assert answer.cut == 1
    assert answer.token_nats == pytest.approx(slow(model, (9, 13, 13), (12, 12)), abs=1e-5)
    # The said side alone fills the window: it is cut too, and what is left starts from the opening token.
    assert lm.encode(Query("", " good" * 7)) == ((0,), (12,) * 4)


def test_no_opening_token():
    tokenizer = gpt2_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="neither a BOS nor an EOS"):
        build(gpt2(), tokenizer).encode(Query("", "good"))


def test_digest():
    one = build(gpt2(), gpt2_tokenizer()).digest()
    assert build(gpt2(), gpt2_tokenizer()).digest() == one != build(gpt2(1), gpt2_tokenizer()).digest()
