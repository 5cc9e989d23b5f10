"""Scores, length rules, calibrations and decisions, by arithmetic written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obverse.errors import MethodError, ModelError
from obverse.labelling import Labeller, make_scorer, temperature_key
from obverse.models.base import Conventions
from obverse.models.counting import CountingModel
from obverse.queries import Likelihood, Query
from obverse.scoring import calibration
from obverse.scoring.scorers import METHODS, Scorer, by_length, decide, log_softmax
from obverse.tasks.examples import Example
from obverse.tasks.templates import InstructionTemplate

# Machines may be busy: how long an example takes says nothing here.
patient = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
ln = math.log

# The text, read by the counting model: P(w) = (times read so far + 1) / (words read so far + 1000).
TEXT = "good good film"
OPTIONS = ("good", "bad film")
TEMPLATE = InstructionTemplate("Is it good", ["text"])
EXAMPLE = Example("1", {"text": TEXT})


def terms(method, rule="sum", **weights):
    scorer = Scorer(method, dict.fromkeys(("direct", "channel", "flipped"), rule), 1.0, weights)
    (row,) = Labeller(CountingModel(), scorer, TEMPLATE).score([EXAMPLE], [OPTIONS])
    return scorer, row.terms


# direct: given "good good film\nIs it good" (6 words: good 3, film, is, it), said "good" / "bad film".
DIRECT = (ln(4 / 1006), ln(1 / 1006) + ln(2 / 1007))
# null: given "Is it good" (3 words).
NULL = (ln(2 / 1003), ln(1 / 1003) + ln(1 / 1004))
# channel: given "good" or "bad film", said "good good film Is it good".
CHANNEL = (
    ln(2 / 1001) + ln(3 / 1002) + ln(1 / 1003) + ln(1 / 1004) + ln(1 / 1005) + ln(4 / 1006),
    ln(1 / 1002) + ln(2 / 1003) + ln(2 / 1004) + ln(1 / 1005) + ln(1 / 1006) + ln(3 / 1007),
)
# flipped: given "input: good good film[1] output: <label>", said "[1] Is it good". The chunk "\nIs it good" stands
# behind the input, so the given side's words are input:, good, good, film[1], output:, <label>.
FLIPPED = (
    ln(1 / 1006) + ln(1 / 1007) + ln(1 / 1008) + ln(4 / 1009),
    ln(1 / 1007) + ln(1 / 1008) + ln(1 / 1009) + ln(3 / 1010),
)


@pytest.mark.parametrize(
    ("method", "rule", "expected"),
    [
        ("direct", "sum", {"direct": DIRECT}),
        ("direct", "token", {"direct": (DIRECT[0] / 1, DIRECT[1] / 2)}),
        ("direct", "byte", {"direct": (DIRECT[0] / 4, DIRECT[1] / 8)}),
        ("channel", "sum", {"channel": CHANNEL}),
        ("channel", "token", {"channel": (CHANNEL[0] / 6, CHANNEL[1] / 6)}),
        # "good good film\nIs it good" has 14 + 1 + 10 characters.
        ("channel", "byte", {"channel": (CHANNEL[0] / 25, CHANNEL[1] / 25)}),
        ("flipped", "sum", {"flipped": FLIPPED}),
        ("flipped", "token", {"flipped": (FLIPPED[0] / 4, FLIPPED[1] / 4)}),
        # "[1] \nIs it good" has 4 + 11 characters once the line end in front of it is gone.
        ("flipped", "byte", {"flipped": (FLIPPED[0] / 15, FLIPPED[1] / 15)}),
        ("pmi", "sum", {"direct": DIRECT, "null": NULL}),
        ("pmi", "token", {"direct": (DIRECT[0], DIRECT[1] / 2), "null": (NULL[0], NULL[1] / 2)}),
        ("pmi", "byte", {"direct": (DIRECT[0] / 4, DIRECT[1] / 8), "null": (NULL[0] / 4, NULL[1] / 8)}),
        ("product", "sum", {"direct": DIRECT, "flipped": FLIPPED}),
        ("product", "token", {"direct": (DIRECT[0], DIRECT[1] / 2), "flipped": (FLIPPED[0] / 4, FLIPPED[1] / 4)}),
    ],
)
def test_terms_of_the_counting_model(method, rule, expected):
    _, found = terms(method, rule)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-12), name


def normalised(values):
    total = sum(math.exp(v) for v in values)
    return [v - ln(total) for v in values]


def test_scores_and_probabilities_of_each_method():
    d, f = normalised(DIRECT), normalised(FLIPPED)
    expected = {
        "direct": DIRECT,
        "channel": CHANNEL,
        "flipped": FLIPPED,
        "pmi": [a - b for a, b in zip(DIRECT, NULL, strict=True)],
        "product": [a + b for a, b in zip(d, f, strict=True)],
    }
    for method, scores in expected.items():
        scorer, found = terms(method)
        assert scorer.score(found) == pytest.approx(list(scores), abs=1e-9), method
        assert scorer.log_probabilities(found) == pytest.approx(normalised(scores), abs=1e-9), method


def test_product_weight():
    scorer, found = terms("product", flipped=0.25)
    expected = [a + 0.25 * b for a, b in zip(normalised(DIRECT), normalised(FLIPPED), strict=True)]
    assert scorer.score(found) == pytest.approx(expected)


def test_blend_of_hand_made_terms():
    scorer = Scorer("blend", weights={"flipped": 2.0, "direct": 0.5, "channel": 0.0, "prior": 3.0})
    assert scorer.terms == ("flipped", "direct", "prior")
    # Equal odds of 1 : 3 and 4 : 1, whatever was added to both; cosines enter as they are.
    made = {"flipped": (-7.0, -7.0 + ln(3)), "direct": (-1.0 + ln(4), -1.0), "prior": (0.5, -0.25)}
    expected = [2 * ln(1 / 4) + 0.5 * ln(4 / 5) + 3 * 0.5, 2 * ln(3 / 4) + 0.5 * ln(1 / 5) - 3 * 0.25]
    assert scorer.score(made) == pytest.approx(expected)
    assert scorer.log_probabilities(made) == pytest.approx(normalised(expected))


def test_blend_asks_the_sentence_encoder():
    class WithEncoder(CountingModel):
        def similarities(self, texts, labels):
            assert texts == [TEXT]
            assert labels == [OPTIONS]
            return [[0.75, 0.25]]

    scorer = Scorer("blend", weights={"direct": 1.0, "prior": 2.0})
    (row,) = Labeller(WithEncoder(), scorer, TEMPLATE).score([EXAMPLE], [OPTIONS])
    assert row.terms == {"direct": pytest.approx(DIRECT), "prior": (0.75, 0.25)}
    with pytest.raises(ModelError, match="carries no sentence encoder"):
        Labeller(CountingModel(), scorer, TEMPLATE).score([EXAMPLE], [OPTIONS])


def test_temperature_divides_the_score():
    found = {"direct": (0.0, -3.0)}
    warm = np.exp(Scorer("direct", temperature=2.0).log_probabilities(found))
    assert warm == pytest.approx([1 / (1 + math.exp(-1.5)), math.exp(-1.5) / (1 + math.exp(-1.5))])
    assert np.exp(Scorer("direct", temperature=1e6).log_probabilities(found)) == pytest.approx([0.5, 0.5], abs=1e-5)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan])
def test_temperatures_not_above_zero_are_refused(temperature):
    with pytest.raises(MethodError, match="must be above 0"):
        Scorer("direct", temperature=temperature)


def test_length_rules_by_hand():
    likelihood = Likelihood(-12.0, 3)
    assert by_length(likelihood, " ab", "sum") == -12.0
    assert by_length(likelihood, " ab", "token") == -4.0
    assert by_length(likelihood, "\n ab \n", "byte") == -6.0
    assert by_length(likelihood, " é€", "byte") == -12.0 / 5
    # Nothing said has no length to divide by; half a character counts three bytes.
    assert by_length(Likelihood(0.0, 0), "", "token") == 0.0
    assert by_length(Likelihood(0.0, 0), "  ", "byte") == 0.0
    assert by_length(likelihood, "\ud83d", "byte") == -4.0


def test_settings_that_do_not_exist_are_refused():
    with pytest.raises(MethodError, match="unknown method 'flip'") as error:
        Scorer("flip")
    assert "Did you mean 'flipped'?" in str(error.value)
    with pytest.raises(MethodError, match="unknown length rule 'bytes'"):
        Scorer("direct", {"direct": "bytes"})
    with pytest.raises(MethodError, match="no blend weights"):
        Scorer("blend")


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("method", ["direct", "pmi", "product"])
def test_scores_that_are_no_numbers_are_refused(broken, method):
    scorer = Scorer(method)
    last = scorer.terms[-1]
    found = {term: (-1.0, broken if term == last else -2.0) for term in scorer.terms}
    with pytest.raises(MethodError, match=f"{last} scores are not finite"):
        scorer.score(found)


# A model's own settings


def test_make_scorer_takes_the_models_defaults():
    conventions = Conventions(
        slots="sentinels",
        method="product",
        length_rules={"flipped": "token"},
        temperatures={"product/sum+token": 2.5, "direct/byte": 0.5, "blend": 9.0, "blend/sum": 7.0},
        blend={"direct": 1.0, "prior": 4.0},
    )
    scorer = make_scorer(conventions)
    assert (scorer.method, scorer.slots, scorer.temperature) == ("product", "sentinels", 2.5)
    assert (scorer.rule("direct"), scorer.rule("flipped")) == ("sum", "token")
    assert make_scorer(conventions, method="direct").temperature == 1.0
    assert make_scorer(conventions, method="direct", length_rule="byte").temperature == 0.5
    assert make_scorer(conventions, length_rule="byte").temperature == 1.0
    assert make_scorer(conventions, temperature=3.0).temperature == 3.0
    blend = make_scorer(conventions, method="blend")
    assert (blend.temperature, blend.terms) == (7.0, ("direct", "prior"))
    assert not make_scorer(conventions).weights
    with pytest.raises(MethodError, match="no blend weights"):
        make_scorer(Conventions(), method="blend")


def test_pmi_shares_one_rule_for_both_halves():
    scorer = make_scorer(Conventions(length_rules={"direct": "byte"}), method="pmi")
    assert scorer.rule("null") == scorer.rule("direct") == "byte"
    assert temperature_key(scorer) == "pmi/byte"
    assert temperature_key(Scorer("blend", weights={"prior": 1.0})) == "blend"


# Decisions


def test_decide_takes_the_first_among_equals():
    prediction = decide(log_softmax(np.array([-3.0, -1.0, -1.0])))
    assert (prediction.index, prediction.tie) == (1, True)
    assert prediction.confidence == prediction.probabilities[1] == prediction.probabilities[2]
    assert not decide(log_softmax(np.array([-1.0, -1.0, -0.5]))).tie
    assert decide(log_softmax(np.zeros(3))).probabilities == pytest.approx((1 / 3,) * 3)


def test_a_text_that_says_nothing_about_the_labels_ties():
    labeller = Labeller(CountingModel(), Scorer("flipped"), InstructionTemplate("So?", ["text"]))
    (row,) = labeller.score([EXAMPLE], [("bad", "worse")])
    assert decide(labeller.scorer.log_probabilities(row.terms)).tie


def test_decide_below_the_smallest_confidence():
    log_p = np.log(np.array([0.6, 0.4]))
    assert decide(log_p, min_confidence=0.5).index == 0
    refused = decide(log_p, min_confidence=0.7)
    assert refused.index is None
    assert refused.reason == "confidence 0.600 below 0.7"
    assert refused.confidence == pytest.approx(0.6)
    assert sum(refused.probabilities) == pytest.approx(1)


# Calibrations, by hand: two options, three content-free inputs or texts

P = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])


def test_bias_is_the_log_of_the_mean():
    # Means 0.6 and 0.4.
    assert calibration.bias(np.log(P)) == pytest.approx([ln(0.6), ln(0.4)])


def test_log_variant_is_the_mean_of_the_logs():
    expected = [(ln(0.9) + ln(0.6) + ln(0.3)) / 3, (ln(0.1) + ln(0.4) + ln(0.7)) / 3]
    assert calibration.bias(np.log(P), of_logs=True) == pytest.approx(expected)
    assert calibration.bias(np.log(P), of_logs=True) != pytest.approx(calibration.bias(np.log(P)))


def test_applied_bias_and_prior():
    # 0.9/0.6 : 0.1/0.4 = 1.5 : 0.25 = 6 : 1.
    corrected = np.exp(calibration.apply(np.log(P), calibration.bias(np.log(P))))
    assert corrected[0] == pytest.approx([6 / 7, 1 / 7])
    assert corrected[1] == pytest.approx([0.5, 0.5])
    # A prior of 1 : 3 turns 6 : 1 into 6 : 3.
    log_prior = calibration.log_prior([1, 3], 2)
    assert np.exp(log_prior) == pytest.approx([0.25, 0.75])
    both = np.exp(calibration.apply(np.log(P), calibration.bias(np.log(P)), log_prior))
    assert both[0] == pytest.approx([2 / 3, 1 / 3])
    only_prior = np.exp(calibration.apply(np.log(P), None, log_prior))
    assert only_prior[0] == pytest.approx([0.9 / 1.2, 0.3 / 1.2])
    assert np.exp(calibration.apply(np.log(P), None)) == pytest.approx(P)


def test_contextual_bias_of_the_counting_model():
    template = InstructionTemplate("{text} so", ["text"])
    labeller = Labeller(CountingModel(), Scorer("direct"), template)
    # "N/A so", "so", "[MASK] so"; the label "[mask]" was read in the last alone.
    odds = [(1, 1), (1, 1), (2, 1)]
    p = [(a / (a + b), b / (a + b)) for a, b in odds]
    expected = [ln((1 / 2 + 1 / 2 + 2 / 3) / 3), ln((1 / 2 + 1 / 2 + 1 / 3) / 3)]
    assert labeller.content_free(EXAMPLE, ("[mask]", "bad")) == pytest.approx(expected)
    logs = [sum(ln(row[k]) for row in p) / 3 for k in (0, 1)]
    assert labeller.content_free(EXAMPLE, ("[mask]", "bad"), of_logs=True) == pytest.approx(logs)


@pytest.mark.parametrize("of_logs", [False, True])
def test_batch_refuses_a_single_text(of_logs):
    with pytest.raises(MethodError, match="at least two texts"):
        calibration.batch_bias(np.log(P[:1]), of_logs=of_logs)
    assert calibration.batch_bias(np.log(P[:2]), of_logs=of_logs).shape == (2,)


@pytest.mark.parametrize(
    "prior", [[1], [1, 2, 3], [1, 0], [1, -1], [1, math.nan], [1, math.inf], ["a", "b"], 0.5, [[1, 2]]]
)
def test_label_priors_that_do_not_fit(prior):
    with pytest.raises(MethodError, match="a label prior needs 2 numbers above 0"):
        calibration.log_prior(prior, 2)


def test_calibration_names():
    for name in ("none", "contextual", "contextual-log", "batch", "batch-log"):
        assert calibration.check_calibration(name) == name
    with pytest.raises(MethodError, match="unknown calibration 'contextul'"):
        calibration.check_calibration("contextul")


# Laws

nats = st.floats(-800, 0, allow_nan=False)
tables = (
    st.integers(2, 5)
    .flatmap(lambda k: st.lists(st.lists(nats, min_size=k, max_size=k), min_size=2, max_size=6))
    .map(lambda rows: np.array(rows))
)


@patient
@given(tables)
def test_probabilities_sum_to_one(scores):
    for method in ("direct", "channel", "flipped"):
        for row in scores:
            log_p = Scorer(method, temperature=3.0).log_probabilities({method: row})
            assert np.exp(log_p).sum() == pytest.approx(1)
            assert (np.diff(row[np.argsort(log_p, kind="stable")]) >= -1e-9).all()


@patient
@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_options_permutes_the_result(scores, random):
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    log_p = log_softmax(scores)
    bias = calibration.batch_bias(log_p)
    moved = log_softmax(scores[:, order])
    assert moved == pytest.approx(log_p[:, order])
    moved_bias = calibration.batch_bias(moved)
    assert moved_bias == pytest.approx(bias[order])
    assert calibration.apply(moved, moved_bias) == pytest.approx(calibration.apply(log_p, bias)[:, order])


@patient
@given(tables, st.lists(st.floats(-50, 50), min_size=5, max_size=5), st.booleans())
def test_calibration_removes_what_stands_before_every_text(scores, taste, of_logs):
    # The mean of the logs drops a constant per option exactly; the log of the mean does so per text and option when
    # every text has the same scores.
    taste = np.array(taste[: scores.shape[1]])
    if of_logs:
        plain, biased = log_softmax(scores), log_softmax(scores + taste)
    else:
        plain, biased = (log_softmax(np.repeat(s[:1], 3, 0)) for s in (scores, scores + taste))
    one = calibration.apply(plain, calibration.batch_bias(plain, of_logs=of_logs))
    two = calibration.apply(biased, calibration.batch_bias(biased, of_logs=of_logs))
    assert one == pytest.approx(two, abs=1e-6)


@patient
@given(tables)
def test_a_bias_equal_for_all_options_and_a_flat_prior_change_nothing(scores):
    log_p = log_softmax(scores)
    k = scores.shape[1]
    assert calibration.apply(log_p, np.full(k, -2.5)) == pytest.approx(log_p)
    assert calibration.apply(log_p, None, calibration.log_prior([7] * k, k)) == pytest.approx(log_p)


@patient
@given(
    st.permutations(["good", "bad film", "film film", "neither"]), st.sampled_from([m for m in METHODS if m != "blend"])
)
def test_neighbouring_options_do_not_touch_a_terms_numbers(order, method):
    scorer = Scorer(method)
    labeller = Labeller(CountingModel(), scorer, TEMPLATE)
    fixed = sorted(order)
    (there,), (here,) = labeller.score([EXAMPLE], [order]), labeller.score([EXAMPLE], [fixed])
    for term in scorer.terms:
        assert dict(zip(order, there.terms[term], strict=True)) == dict(zip(fixed, here.terms[term], strict=True))


# The labelling road


def test_each_example_has_its_own_options():
    labeller = Labeller(CountingModel(), Scorer("pmi"), TEMPLATE)
    examples = [Example(str(i), {"text": text}) for i, text in enumerate(("good", "bad", "film film"))]
    options = [("good", "bad"), ("film", "good", "bad"), ("bad", "film")]
    together = labeller.score(examples, options)
    apart = [
        Labeller(CountingModel(), Scorer("pmi"), TEMPLATE).score([e], [o])[0]
        for e, o in zip(examples, options, strict=True)
    ]
    assert together == apart
    assert [len(row.terms["direct"]) for row in together] == [2, 3, 2]
    with pytest.raises(ValueError, match="shorter"):
        labeller.score(examples, options[:2])


def test_answers_that_depend_on_no_input_are_asked_once():
    class Listening(CountingModel):
        def __init__(self):
            super().__init__()
            self.asked: list[Query] = []

        def log_likelihoods(self, queries, *, progress=None, pieces=False):
            self.asked += queries
            return super().log_likelihoods(queries, progress=progress, pieces=pieces)

    model = Listening()
    labeller = Labeller(model, Scorer("pmi"), TEMPLATE)
    examples = [Example(str(i), {"text": f"text {i}"}) for i in range(4)]
    reported: list[int] = []
    first = labeller.score(examples[:2], [OPTIONS] * 2, progress=reported.append)
    assert sum(reported) == 2 * 2 * 2
    model.asked.clear()
    reported.clear()
    second = labeller.score(examples[2:], [OPTIONS] * 2, progress=reported.append)
    assert len(model.asked) == 4
    assert all(q.given != "Is it good" for q in model.asked)
    # Progress counts every query, those known already too.
    assert sum(reported) == 8
    assert first[0].terms["null"] == second[1].terms["null"] == pytest.approx(NULL)


def test_remembering_is_bounded():
    labeller = Labeller(CountingModel(), Scorer("pmi"), TEMPLATE, remember=3)
    labels = [f"label {i}" for i in range(6)]
    for chosen in itertools.combinations(labels, 2):
        labeller.score([EXAMPLE, EXAMPLE], [chosen, chosen])
    assert len(labeller._known) <= 3
