"""The counting model against numbers worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import pytest

from obverse.models.counting import CountingModel
from obverse.queries import Query


def nats(given, said):
    return CountingModel().log_likelihoods([Query(given, said)])[0]


def test_counts_by_hand():
    # 2 words read, `good` once: (1 + 1) / (2 + 1000)
    assert nats("good film", " good").token_nats == pytest.approx((math.log(2 / 1002),))
    assert nats("good film", " bad").token_nats == pytest.approx((math.log(1 / 1002),))
    # A said word counts for the next one.
    two = nats("good film", " bad bad")
    assert two.token_nats == pytest.approx((math.log(1 / 1002), math.log(2 / 1003)))
    assert two.nats == pytest.approx(math.log(1 / 1002) + math.log(2 / 1003))
    assert two.tokens == 2
    three = nats("", "b a b")
    assert three.token_nats == pytest.approx((math.log(1 / 1000), math.log(1 / 1001), math.log(2 / 1002)))


def test_case_is_folded_and_white_space_has_no_weight():
    assert nats("GOOD film", "good") == nats("good\n\n  film ", "  good")
    assert nats("Straße", "STRASSE").token_nats == pytest.approx((math.log(2 / 1001),))


def test_nothing_said():
    empty = nats("good", "  ")
    assert (empty.nats, empty.tokens, empty.token_nats) == (0.0, 0, ())


def test_order_repetition_pieces_and_progress():
    model = CountingModel()
    told = []
    queries = [Query("a b", "A c"), Query("a", "a"), Query("a b", "A c")]
    answers = model.log_likelihoods(queries, progress=told.append, pieces=True)
    assert answers[0] == answers[2]
    assert answers[0].pieces == ("A", "c")
    assert sum(told) == 3
    assert model.log_likelihoods(queries[::-1]) == model.log_likelihoods(queries)[::-1]
    assert model.log_likelihoods([]) == []


def test_a_sum_over_the_vocabulary_is_one():
    # Three words were read, so 997 of the 1,000 words of the vocabulary were not.
    read = "a b c"
    seen = sum(math.exp(nats(read, word).nats) for word in ("a", "b", "c"))
    assert seen + 997 * math.exp(nats(read, "unseen").nats) == pytest.approx(1)


def test_attributes():
    model = CountingModel()
    assert (model.name, model.family) == ("counting", "counting")
    assert model.window.given is model.window.said is model.window.joint is None
    assert model.count_tokens("one two\nthree") == 3
    assert len(model.digest()) == 16
    assert model.digest() == CountingModel().digest()


def test_speed_allows_a_million_rows():
    queries = [Query(f"row {i} has a few words", label) for i in range(10_000) for label in (" good", " bad")]
    start = time.process_time()
    CountingModel().log_likelihoods(queries)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("module", ["plan", "counting", "checkpoints", "conventions", "precision", "tokens"])
def test_importing_loads_no_torch(module):
    code = (
        f"import sys; import obverse.models.{module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
