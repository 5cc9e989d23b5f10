"""The estimator: labels, an instruction and a model make a classifier."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from obverse.catalog.demonstrations import demonstration_set
from obverse.errors import DataError, LabelError
from obverse.labelling import Labeller, make_scorer
from obverse.models.base import LanguageModel
from obverse.scoring import calibration as calibrations
from obverse.tasks.demonstrations import DemonstrationSet, TaskDemonstration
from obverse.tasks.examples import Example
from obverse.tasks.labels import LabelSet
from obverse.tasks.templates import InstructionTemplate, default_instruction

if TYPE_CHECKING:
    from obverse.reports.explanation import Explanation

_TEXT = "text"


class ZeroShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped bases
    """Label texts with labels made up a minute ago.

    Keeps scikit-learn's estimator contract, so it goes into a `Pipeline` or `cross_val_score`. There is nothing to
    learn: `fit` only loads the model, and `predict` loads it by itself when it was not called.

    Args:
        labels: at least two names, or a mapping from name to description; a description takes part in the scoring.
        instruction: what is to be decided; `{text}` marks the text's place. None builds one from the labels.
        model: a folder, a hub id, `obverse-mini` (the model that ships), or a `LanguageModel`.
        method: direct, channel, flipped, pmi, product or blend; None takes the model's own.
        length_rule: sum, token or byte; None takes the model's own.
        calibration: none, contextual or batch (also `contextual-log`, `batch-log`). Batch estimates its bias on the
            texts of each call, so a text's answer then depends on its neighbours.
        label_prior: how frequent each label is expected to be, or None.
        temperature: of the softmax over labels; None takes the one kept with the model.
        device: where the model runs; None takes the best there is.
        demos: demonstrations of other tasks in front of every prompt, as many as the model's window has room for:
            `default`, a .toml or .json file, or a list of demonstrations (each perhaps a dict with definition, input
            and output). None shows none.

    Attributes:
        classes_: the label names as given, shape (labels,). `predict_proba` has its columns in this order.
            scikit-learn's metrics over probabilities (log loss, ROC AUC) suppose alphabetical columns: give the labels
            in that order where they are used.

    Example:
        >>> clf = ZeroShotClassifier(labels=["praise", "complaint"], instruction="What is the customer doing?")
        >>> clf.predict(["The parcel arrived broken."])  # doctest: +SKIP
        array(['complaint'], dtype='<U9')
    """

    def __init__(
        self,
        labels: Sequence[str] | dict[str, str | None],
        instruction: str | None = None,
        *,
        model: str | LanguageModel = "obverse-mini",
        method: str | None = None,
        length_rule: str | None = None,
        calibration: str = "none",
        label_prior: Sequence[float] | None = None,
        temperature: float | None = None,
        device: str | None = None,
        demos: str | Path | DemonstrationSet | Sequence[TaskDemonstration | Mapping[str, object]] | None = None,
    ) -> None:
        # Stored as given and checked on use: scikit-learn's contract for `clone` and `set_params`.
        self.labels = labels
        self.instruction = instruction
        self.model = model
        self.method = method
        self.length_rule = length_rule
        self.calibration = calibration
        self.label_prior = label_prior
        self.temperature = temperature
        self.device = device
        self.demos = demos

    @property
    def classes_(self) -> NDArray[np.str_]:
        return np.array(self._label_set().names)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any = None, y: Any = None) -> ZeroShotClassifier:
        """Check the settings and load the model; `X` and `y` are not looked at.

        Raises:
            ObverseError: a setting that does not fit, or a model that cannot be loaded.
        """
        self._log_prior()
        self._labeller()
        return self

    def predict(self, X: Sequence[str]) -> NDArray[np.str_]:
        """The most probable label of each text, shape (n,)."""
        best: NDArray[np.str_] = self.classes_[self.predict_log_proba(X).argmax(1)]
        return best

    def predict_proba(self, X: Sequence[str]) -> NDArray[np.float64]:
        """The probability of each label, shape (n, labels); rows sum to 1.

        Raises:
            DataError: a text that is not a string, or is blank; names its position.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Sequence[str]) -> NDArray[np.float64]:
        """Natural logarithm of `predict_proba`."""
        labels = self._label_set()
        examples = [self._example(i, text) for i, text in enumerate(_texts(X))]
        if not examples:
            return np.zeros((0, len(labels)))
        labeller = self._labeller()
        name = calibrations.check_calibration(self.calibration)
        log_prior = self._log_prior()
        rows = labeller.score(examples, [labels.texts] * len(examples))
        log_p = np.stack([labeller.scorer.log_probabilities(row.terms) for row in rows])
        bias = None
        if name.startswith("contextual"):
            bias = labeller.content_free(examples[0], labels.texts, of_logs=name.endswith("-log"))
        elif name.startswith("batch"):
            bias = calibrations.batch_bias(log_p, of_logs=name.endswith("-log"))
        return calibrations.apply(log_p, bias, log_prior)

    def explain(self, text: str) -> Explanation:
        """Which words of the instruction spoke for which label, in the flipped direction."""
        from obverse.reports.explanation import Explanation

        labels = self._label_set()
        labeller = self._labeller()
        tokens, nats = labeller.explain(self._example(0, text), labels.texts)
        return Explanation(
            text=text,
            labels=labels.names,
            tokens=tuple(tokens),
            nats=tuple(tuple(float(n) for n in row) for row in nats),
            probabilities=tuple(float(p) for p in self.predict_proba([text])[0]),
            kind="flipped",
        )

    def _label_set(self) -> LabelSet:
        if isinstance(self.labels, Mapping):
            return LabelSet(tuple(self.labels), tuple(self.labels.values()))
        if isinstance(self.labels, str) or not isinstance(self.labels, Sequence | np.ndarray):
            # A set, too: it has no order, so columns would change places from run to run.
            raise LabelError(
                f"labels is a {type(self.labels).__name__}; a list of label names is needed",
                mend='For example labels=["praise", "complaint"].',
            )
        return LabelSet(tuple(self.labels))

    def _log_prior(self) -> NDArray[np.float64] | None:
        return None if self.label_prior is None else calibrations.log_prior(self.label_prior, len(self._label_set()))

    def _labeller(self) -> Labeller:
        labels = self._label_set()
        calibrations.check_calibration(self.calibration)
        shown = None if self.demos is None else demonstration_set(self.demos)
        key = (repr(self.model) if isinstance(self.model, str) else id(self.model), self.device)
        if getattr(self, "_loaded", (None,))[0] != key:
            from obverse.models.checkpoints import load_model

            loaded = load_model(self.model, device=self.device) if isinstance(self.model, str) else self.model
            self._loaded = (key, loaded)
        model: LanguageModel = self._loaded[1]
        scorer = make_scorer(
            model.conventions, method=self.method, length_rule=self.length_rule, temperature=self.temperature
        )
        words = self.instruction if self.instruction is not None else default_instruction(labels.names)
        # Kept between calls while the settings stay the same: it remembers answers that depend on no text.
        settings = (id(model), scorer.method, str(scorer), words, shown)
        if getattr(self, "_kept", (None,))[0] != settings:
            template = InstructionTemplate(words, [_TEXT])
            self._kept = (settings, Labeller(model, scorer, template, demonstrations=shown))
        return self._kept[1]

    def __getstate__(self) -> dict[str, Any]:
        # A copy for another process loads its own model.
        return {k: v for k, v in super().__getstate__().items() if k not in ("_loaded", "_kept")}

    def __sklearn_clone__(self) -> ZeroShotClassifier:
        # A clone asks the same model: scikit-learn would copy its weights, or load them again for each fold.
        settings = self.get_params(deep=False)
        model = settings.pop("model")
        copy = type(self)(**{name: clone(value, safe=False) for name, value in settings.items()}, model=model)
        if hasattr(self, "_loaded"):
            copy._loaded = self._loaded
        return copy

    def _example(self, i: int, text: object) -> Example:
        if not isinstance(text, str):
            raise DataError(f"text {i} is {reprlib.repr(text)}, which is not text", mend="Give a list of strings.")
        if not text.strip():
            raise DataError(f"text {i} is blank", mend="Leave blank texts out: there is nothing to label.")
        return Example(str(i), {_TEXT: text}, where=f"text {i}")


def _texts(X: object) -> list[object]:
    """A flat list of texts from a list, an array, or a one-column table."""
    if isinstance(X, str):
        raise DataError("X is one text; a list of texts is needed", mend="predict([text])")
    array = getattr(X, "to_numpy", None)
    values: Any = array() if callable(array) else X
    if isinstance(values, np.ndarray):
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise DataError(f"X has shape {values.shape}; one text a row is needed")
        return list(values.tolist())
    if not isinstance(values, Sequence):
        try:
            values = list(values)
        except TypeError:
            raise DataError(f"X is a {type(X).__name__}; a list of texts is needed") from None
    return list(values)
