"""The estimator: columns, settings, scikit-learn's contract, and errors that say where."""

from __future__ import annotations

import csv
import math
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

import obverse.models.checkpoints
from obverse.classifier import ZeroShotClassifier
from obverse.errors import DataError, LabelError, MethodError, ModelError, ObverseError, TemplateError, WindowError
from obverse.models.base import Conventions, Window
from obverse.models.counting import CountingModel
from obverse.models.seq2seq import Seq2SeqModel
from obverse.recipes import predict as recipe
from obverse.recipes.predict_task import PredictSettings
from obverse.tasks.demonstrations import DemonstrationSet, TaskDemonstration
from obverse.tasks.labels import LabelSet
from tiny import bart, bart_tokenizer, t5, t5_tokenizer

TEXTS = ["good film", "a bad bad film", "film"]
LABELS = ["good", "bad"]


def classifier(labels=LABELS, instruction="So?", **settings):
    return ZeroShotClassifier(labels, instruction, model=settings.pop("model", CountingModel()), **settings)


def tiny():
    return Seq2SeqModel(bart(), bart_tokenizer(), name="tiny", conventions=Conventions())


def test_shapes_columns_and_arg_max():
    clf = classifier()
    proba = clf.predict_proba(TEXTS)
    assert proba.shape == (3, 2)
    assert proba.dtype == np.float64
    assert proba.sum(1) == pytest.approx([1, 1, 1])
    # The counting model, direct: "good" was read once and "bad" never, so 2 : 1; then 1 : 3; then 1 : 1.
    assert proba == pytest.approx(np.array([[2 / 3, 1 / 3], [1 / 4, 3 / 4], [1 / 2, 1 / 2]]))
    assert list(clf.predict(TEXTS)) == ["good", "bad", "good"]
    assert list(clf.classes_) == LABELS
    assert np.exp(clf.predict_log_proba(TEXTS)) == pytest.approx(proba)


def test_columns_follow_the_labels_as_given():
    one, two = classifier(["good", "bad"]), classifier(["bad", "good"])
    assert one.predict_proba(TEXTS) == pytest.approx(two.predict_proba(TEXTS)[:, ::-1])
    assert list(two.predict(TEXTS)) == ["good", "bad", "bad"]  # a tie goes to the first


@pytest.mark.parametrize("method", ["direct", "channel", "flipped", "pmi", "product"])
@pytest.mark.parametrize("calibration", ["none", "contextual", "contextual-log", "batch", "batch-log"])
def test_every_method_and_calibration_gives_probabilities(method, calibration):
    clf = classifier(method=method, calibration=calibration, label_prior=[1, 3])
    proba = clf.predict_proba(TEXTS)
    assert proba.sum(1) == pytest.approx([1, 1, 1])
    assert (proba > 0).all()
    assert list(clf.predict(TEXTS)) == [LABELS[i] for i in proba.argmax(1)]


def test_calibration_prior_and_temperature_by_hand():
    # Odds good : bad are 2 : 1, 1 : 3 and 1 : 1; the prior multiplies them.
    proba = classifier(label_prior=[1, 3]).predict_proba(TEXTS)
    assert proba[:, 0] / proba[:, 1] == pytest.approx([2 / 3, 1 / 9, 1 / 3])
    # Means over the batch: (2/3 + 1/4 + 1/2) / 3 and (1/3 + 3/4 + 1/2) / 3, that is 17 : 19.
    proba = classifier(calibration="batch").predict_proba(TEXTS)
    assert proba[:, 0] / proba[:, 1] == pytest.approx([2 * 19 / 17, 19 / 51, 19 / 17])
    proba = classifier(temperature=2.0).predict_proba(TEXTS)
    assert proba[:, 0] / proba[:, 1] == pytest.approx([math.sqrt(2), math.sqrt(1 / 3), 1])
    # Read: "[MASK]" once among three content-free inputs; odds 2 : 1 there, 1 : 1 elsewhere.
    proba = classifier(["[mask]", "bad"], calibration="contextual").predict_proba(["film"])
    assert proba[0, 0] / proba[0, 1] == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / (1 / 2 + 1 / 2 + 2 / 3))


def test_descriptions_take_part_but_names_are_predicted():
    clf = classifier({"praise": "good", "complaint": "bad", "other": None})
    assert list(clf.classes_) == ["praise", "complaint", "other"]
    assert clf.predict_proba(TEXTS).shape == (3, 3)
    # Said "praise: good": two words, and the word of each description was read in one text.
    proba = classifier({"praise": "good", "complaint": "bad"}).predict_proba(TEXTS)
    assert proba[:, 0] / proba[:, 1] == pytest.approx([2, 1 / 3, 1])
    assert list(classifier({"praise": "good", "complaint": "bad"}).predict(TEXTS[:2])) == ["praise", "complaint"]


def test_without_an_instruction_the_labels_make_one():
    assert list(classifier(instruction=None).predict(TEXTS[:2])) == ["good", "bad"]
    assert classifier(["{good}", "bad"], None).predict(["film"]).shape == (1,)


def test_the_same_text_gets_the_same_answer_in_any_company():
    clf = classifier(model=tiny(), labels=["good", "bad bad"], method="pmi")
    together = clf.predict_proba(["good good", "bad", "bad good bad good bad"])
    apart = np.concatenate([clf.predict_proba([text]) for text in ("good good", "bad", "bad good bad good bad")])
    assert together == pytest.approx(apart, abs=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-4


@pytest.mark.parametrize("method", ["direct", "channel", "flipped", "pmi", "product"])
def test_a_network_answers_like_any_model(method):
    clf = classifier(labels=["good", "bad"], model=tiny(), method=method)
    proba = clf.predict_proba(["good bad", "bad"])
    assert proba.shape == (2, 2)
    assert proba.sum(1) == pytest.approx([1, 1])
    assert list(clf.predict(["good bad", "bad"])) == [LABELS[i] for i in proba.argmax(1)]


# What a text may come in


class Frame:
    """What a data frame's column or a one-column frame offers."""

    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return self.values


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array(TEXTS).reshape(3, 1),
        (text for text in TEXTS),
        dict.fromkeys(TEXTS),
        Frame(np.array(TEXTS, dtype=object)),
        Frame(np.array(TEXTS).reshape(3, 1)),
    ],
    ids=["list", "tuple", "array", "objects", "column", "generator", "mapping", "series", "frame"],
)
def test_input_types(texts):
    assert list(classifier().predict(texts)) == ["good", "bad", "good"]


def test_no_texts_no_answers():
    clf = classifier(calibration="batch")
    assert clf.predict([]).shape == (0,)
    assert clf.predict_proba(np.array([], dtype=str)).shape == (0, 2)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "X is one text"),
        (["a", 3], "text 1 is 3, which is not text"),
        (["a", None], "text 1 is None, which is not text"),
        (["a", "b", float("nan")], "text 2 is nan"),
        (["a", "b", "  \n"], "text 2 is blank"),
        ([["a"], ["b"]], r"text 0 is \['a'\]"),
        ([b"a"], "text 0 is b'a'"),
        (np.array([["a", "b"]]), r"shape \(1, 2\)"),
        (np.array("a"), r"shape \(\)"),
        (3, "X is a int"),
        (None, "X is a NoneType"),
    ],
)
def test_texts_that_are_none_are_refused_with_their_place(texts, message):
    with pytest.raises(DataError, match=message):
        classifier().predict(texts)


def test_long_values_are_shown_shortened():
    with pytest.raises(DataError) as error:
        classifier().predict([list(range(10_000))])
    assert len(str(error.value)) < 200


# Settings that do not fit


@pytest.mark.parametrize("labels", ["praise, complaint", None, 3, {"good", "bad"}, (x for x in LABELS)])
def test_labels_of_the_wrong_kind(labels):
    with pytest.raises(LabelError, match="a list of label names is needed"):
        ZeroShotClassifier(labels, model=CountingModel()).fit()


@pytest.mark.parametrize("labels", [[], ["good"], ["good", ""], ["good", "Good"], [0, 1], {"good": "x"}])
def test_labels_that_are_no_choice(labels):
    with pytest.raises(LabelError):
        ZeroShotClassifier(labels, model=CountingModel()).fit()


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"method": "fliped"}, MethodError, "unknown method"),
        ({"length_rule": "tokens"}, MethodError, "unknown length rule"),
        ({"calibration": "batched"}, MethodError, "unknown calibration"),
        ({"temperature": 0.0}, MethodError, "temperature"),
        ({"label_prior": [1.0]}, MethodError, "label prior"),
        ({"method": "blend"}, MethodError, "no blend weights"),
        ({"instruction": " "}, TemplateError, "blank"),
        ({"instruction": "Is {txt} good?"}, TemplateError, "slot {txt}"),
        ({"model": "no/such/folder/anywhere"}, ModelError, "no/such/folder/anywhere"),
    ],
)
def test_fit_refuses_settings_that_do_not_fit(settings, kind, message):
    with pytest.raises(kind, match=message):
        classifier(**settings).fit()


def test_batch_calibration_needs_company():
    with pytest.raises(MethodError, match="at least two texts"):
        classifier(calibration="batch").predict(["alone"])


def test_window_errors_name_the_text():
    model = Seq2SeqModel(
        bart(), bart_tokenizer(), name="tiny", conventions=Conventions(), window=Window(given=12, said=8)
    )
    clf = classifier(model=model, instruction="bad")
    # A long text is shortened to what fits; an instruction is not.
    assert clf.predict(["good " * 100]).shape == (1,)
    with pytest.raises(WindowError, match="text 0: instruction and labels alone are"):
        classifier(model=model, instruction="bad " * 20).predict(["good " * 100])


# scikit-learn


def test_nothing_is_looked_at_before_use():
    clf = ZeroShotClassifier(["only one"], "{nonsense}", model="nowhere", method="none", calibration="x")
    assert clf.get_params() == {
        "labels": ["only one"],
        "instruction": "{nonsense}",
        "model": "nowhere",
        "method": "none",
        "length_rule": None,
        "calibration": "x",
        "label_prior": None,
        "temperature": None,
        "device": None,
        "demos": None,
    }
    assert "only one" in repr(clf)
    check_is_fitted(clf)


def test_settings_can_change_between_calls():
    clf = classifier().fit(["ignored"], ["ignored"])
    before = clf.predict_proba(TEXTS)
    assert clf.set_params(labels=["film", "good", "bad"], method="flipped") is clf
    assert clf.predict_proba(TEXTS).shape == (3, 3)
    clf.set_params(labels=LABELS, method=None, temperature=5.0)
    assert clf.predict_proba(TEXTS) != pytest.approx(before)
    clf.set_params(temperature=None, instruction="{text}")
    assert clf.predict_proba(TEXTS) == pytest.approx(before)
    with pytest.raises(ValueError, match="Invalid parameter"):
        clf.set_params(lables=[])


def test_clones_share_the_model_and_nothing_else():
    model = tiny()
    clf = classifier(model=model, method="flipped", label_prior=[1, 2]).fit()
    copy = clone(clf)
    assert copy is not clf
    assert copy.model is model
    assert copy.labels == clf.labels
    assert copy.labels is not clf.labels
    assert copy.get_params() == clf.get_params()
    copy.set_params(method="direct")
    assert clf.method == "flipped"


def test_a_named_model_is_loaded_once_for_all_folds(monkeypatch):
    loads = []

    def load(name, *, device=None):
        loads.append((name, device))
        return CountingModel()

    monkeypatch.setattr(obverse.models.checkpoints, "load_model", load)
    clf = ZeroShotClassifier(LABELS, "So?", model="somewhere").fit()
    scores = cross_val_score(clf, np.array(TEXTS * 4), np.array(["good", "bad", "good"] * 4), cv=3)
    assert list(scores) == [1.0, 1.0, 1.0]
    assert loads == [("somewhere", None)]
    clf.set_params(model="elsewhere", device="cpu").predict(TEXTS)
    assert loads[1:] == [("elsewhere", "cpu")]


def test_pipelines_searches_and_calibrated_classifiers():
    steps = [("lower", FunctionTransformer(lambda X: [x.lower() for x in X])), ("label", classifier())]
    pipeline = Pipeline(steps).fit(["X"], ["good"])
    assert list(pipeline.predict(["GOOD", "Bad"])) == ["good", "bad"]
    assert list(pipeline.classes_) == LABELS
    X, y = TEXTS * 4, ["good", "bad", "bad"] * 4
    search = GridSearchCV(
        classifier(), {"labels": [["good", "bad"], ["bad", "good"]], "method": ["direct", "pmi"]}, cv=2
    )
    search.fit(X, y)
    # Only the second order puts the tie of the third text on "bad".
    assert search.best_params_["labels"] == ["bad", "good"]
    assert search.best_score_ == 1.0
    assert classifier().score(TEXTS, ["good", "bad", "bad"]) == pytest.approx(2 / 3)
    # Alphabetical columns are what scikit-learn's own probability metrics suppose.
    loss = cross_val_score(classifier(["bad", "good"]), np.array(TEXTS * 2), np.array(["good", "bad", "good"] * 2),
                           cv=2, scoring="neg_log_loss")  # fmt: skip
    assert loss == pytest.approx([(math.log(2 / 3) + math.log(3 / 4) + math.log(1 / 2)) / 3] * 2)
    calibrated = CalibratedClassifierCV(classifier(["bad", "good"]), cv=2).fit(np.array(X), y)
    assert calibrated.predict_proba(np.array(X)).shape == (12, 2)


def test_pickling_leaves_the_loaded_model_behind():
    clf = ZeroShotClassifier(LABELS, "So?", model="counting").fit()
    before = clf.predict_proba(TEXTS)
    data = pickle.dumps(clf)
    assert b"CountingModel" not in data
    again = pickle.loads(data)
    assert again.get_params() == clf.get_params()
    assert again.predict_proba(TEXTS) == pytest.approx(before)


# Explaining


def test_explain_compares_the_instruction_token_by_token():
    clf = classifier(instruction="Is it good or bad")
    explanation = clf.explain("film")
    assert explanation.labels == ("good", "bad")
    assert explanation.tokens == ("[1]", "Is", "it", "good", "or", "bad")
    nats = np.array(explanation.nats)
    assert nats.shape == (2, 6)
    # Read: "input: film[1] output: good": 4 words, "good" once. Said as the fourth word: 7 are read by then.
    assert nats[0, 3] == pytest.approx(math.log(2 / 1007))
    assert nats[1, 3] == pytest.approx(math.log(1 / 1007))
    assert explanation.probabilities == pytest.approx(clf.predict_proba(["film"])[0])


def test_explain_on_a_network_and_a_window_too_small_for_the_text():
    model = Seq2SeqModel(
        bart(), bart_tokenizer(), name="tiny", conventions=Conventions(), window=Window(given=40, said=30)
    )
    explanation = classifier(model=model, instruction="bad good").explain("good " * 100)
    assert len(explanation.nats) == 2
    assert len(explanation.nats[0]) == len(explanation.tokens)


def test_explain_refuses_blank_texts():
    with pytest.raises(ObverseError, match="text 0 is blank"):
        classifier().explain("  ")


# Demonstrations


GOOD = {"definition": "Good or bad?", "input": "a good good day", "output": "good"}


def test_demonstrations_stand_in_front():
    # The counting model has read good five times, once of it in the text, and bad never ("bad?" is another word).
    assert classifier(demos=[GOOD]).predict_proba(["good film"]) == pytest.approx(np.array([[6 / 7, 1 / 7]]))
    # Divided by what it says of a text without content, 5 to 1: 6/5 to 1/1.
    calibrated = classifier(demos=[GOOD], calibration="contextual").predict_proba(["good film"])
    assert calibrated == pytest.approx(np.array([[6 / 11, 5 / 11]]))


def test_demonstrations_are_a_name_a_file_or_a_list(tmp_path):
    (tmp_path / "one.toml").write_text(
        '[[demonstrations]]\ndefinition = "Good or bad?"\ninput = "a good good day"\noutput = "good"\n'
    )
    shown = TaskDemonstration(**GOOD)
    expected = classifier(demos=[GOOD]).predict_proba(TEXTS)
    for demos in (tmp_path / "one.toml", str(tmp_path / "one.toml"), [shown], (shown,), DemonstrationSet((shown,))):
        clf = classifier(demos=demos)
        assert (clf.predict_proba(TEXTS) == expected).all()
        assert (clone(clf).predict_proba(TEXTS) == expected).all()
    changed = classifier()
    before = changed.predict_proba(TEXTS)
    assert (changed.set_params(demos=[GOOD]).predict_proba(TEXTS) == expected).all()
    assert (expected != before).any()
    assert (changed.set_params(demos=None).predict_proba(TEXTS) == before).all()


@pytest.mark.parametrize("demos", ["default", "two.toml"])
@pytest.mark.parametrize("method", ["direct", "channel", "flipped", "pmi"])
@pytest.mark.parametrize("calibration", ["none", "contextual"])
def test_scores_behind_demonstrations_are_those_of_predict(tmp_path, monkeypatch, demos, method, calibration):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.toml").write_text(
        "".join(f'[[demonstrations]]\ndefinition = "{answer}?"\ninput = "x"\noutput = "{answer}"\n' for answer in "ab")
    )
    (tmp_path / "rows.csv").write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
    model = Seq2SeqModel(t5(), t5_tokenizer(), name="tiny", conventions=Conventions())
    recipe.predict(
        PredictSettings(
            input=tmp_path / "rows.csv",
            output=tmp_path / "out.csv",
            labels=LabelSet(tuple(LABELS)),
            instruction="So?",
            text=("text",),
            method=method,
            calibration=calibration,
            demos=demos,
        ),
        model=model,
    )
    with open("out.csv", newline="") as file:
        told = [[float(row["p(good)"]), float(row["p(bad)"])] for row in csv.DictReader(file)]
    clf = classifier(model=model, method=method, calibration=calibration, demos=demos)
    assert clf.predict_proba(TEXTS).round(6).tolist() == told
    without = classifier(model=model, method=method, calibration=calibration).predict_proba(TEXTS)
    assert (without.round(6) != np.array(told)).any()


@pytest.mark.parametrize(
    ("demos", "says"),
    [
        ("nothing", "there is no set of demonstrations 'nothing'"),
        ("nothing.toml", "nothing.toml: cannot be read"),
        (3, "demonstrations are given as a int"),
        (GOOD, "demonstrations are given as a dict"),
        ([], "holds no demonstrations"),
        (["good"], "demonstration 1: is the text 'good'"),
        ([GOOD, {"definition": "Wet?"}], "demonstration 2: there is no `input`"),
        ([GOOD | {"choices": ["wet", "dry"]}], "the output 'good' is none of the choices"),
        ([GOOD | {"answer": "x"}], "there is no key 'answer'"),
    ],
)
def test_demonstrations_that_cannot_be(demos, says):
    with pytest.raises(ObverseError, match=says):
        classifier(demos=demos).fit()
