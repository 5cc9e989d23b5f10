"""Judge the bundled model on sets and wordings it never saw, every term alone and together, against baselines."""

from __future__ import annotations

import functools
import json
import random as python_random
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obverse.catalog.promptsource import read_split
from obverse.labelling import Labeller
from obverse.metrics.classification import accuracy, confusion_counts, expected_calibration_error, macro_f1
from obverse.metrics.intervals import mean_paired_difference, wilson
from obverse.models.base import LanguageModel
from obverse.scoring import calibration as calibrations
from obverse.scoring.scorers import PRIOR, Scorer, log_softmax
from obverse.tasks.examples import Example
from obverse.tasks.templates import InstructionTemplate

ONE_TEXT = ("majority", "cosine", "direct", "flipped", "product", "similarity", "blend")
"""Methods that look at one text alone.

`cosine` is the pretrained sentence encoder, the baseline; `similarity` the prior of the blend, trained from that one.
"""
_SHARPNESS = 20.0  # nats a unit of cosine, for the calibrated baseline
CALIBRATED = ("cosine, contextual", "blend, contextual", "cosine, batch", "blend, batch")


@dataclass(frozen=True)
class Judged:
    """One set under one wording.

    Attributes:
        family: the kind of task.
        gold: the right options' indices (n,).
        predicted: method -> indices (n,).
        probabilities: of the blend (n, K).
    """

    name: str
    family: str
    instruction: str
    labels: tuple[str, ...]
    gold: NDArray[np.int64]
    predicted: Mapping[str, NDArray[np.int64]]
    probabilities: NDArray[np.float64]


def judge(model: LanguageModel, plan: Path, data: Path, *, say: Callable[[str], None] = print) -> list[Judged]:
    """Every (set, wording) pair of the plan.

    Args:
        plan: `bundled/judge.toml`.
        data: folder that holds `p3/` and `index.json`.
    """
    settings = tomllib.loads(plan.read_text(encoding="utf-8"))
    names = {entry["name"]: entry.get("label_names") for entry in json.loads((data / "index.json").read_text())["p3"]}
    out = []
    for entry in settings["sets"]:
        examples, gold = _rows(entry, data, settings)
        for wording in entry["wordings"]:
            labels = (
                tuple(names[entry["name"]][v].replace("_", " ") for v in entry["values"])
                if wording.get("names")
                else tuple(wording["labels"])
            )
            began = time.monotonic()
            judged = judge_wording(model, entry, wording["instruction"], labels, examples, gold)
            out.append(judged)
            scores = "  ".join(f"{m} {float(macro_f1(_confusion(judged, m))):.2f}" for m in ONE_TEXT)
            say(f"{entry['name']} {labels[:3]}: {scores}  ({len(gold) / (time.monotonic() - began):.0f} texts/s)")
    return out


def _rows(entry: Mapping[str, Any], data: Path, settings: Mapping[str, Any]) -> tuple[list[Example], NDArray[np.int64]]:
    """The judged rows of a set and the places of their right options."""
    rows = [r for r in read_split(data, entry["name"], entry["split"]) if r.fields[entry["label"]] in entry["values"]]
    python_random.Random(settings["seed"]).shuffle(rows)
    rows = rows[: settings["rows"]]
    gold = np.array([entry["values"].index(row.fields[entry["label"]]) for row in rows])
    return [Example(r.id, {"text": str(r.fields[entry["text"]]).strip()}, where=r.where) for r in rows], gold


def judge_rewording(model: LanguageModel, plan: Path, data: Path, *, say: Callable[[str], None] = print) -> Rewording:
    """What is lost when labels are said in words that training never used.

    Args:
        plan: `bundled/rewording.toml`.
        data: folder that holds `p3/` and `index.json`.
    """
    settings = tomllib.loads(plan.read_text(encoding="utf-8"))
    known: dict[str, dict[str, NDArray[np.bool_]]] = {}
    new: dict[str, dict[str, NDArray[np.bool_]]] = {}
    for entry in settings["sets"]:
        examples, gold = _rows(entry, data, settings)
        judged = [
            judge_wording(model, entry, entry["instruction"], tuple(labels), examples, gold)
            for labels in (entry["known"], *entry["new"])
        ]
        right = [{m: j.predicted[m] == gold for m in ONE_TEXT} for j in judged]
        known[entry["name"]] = right[0]
        new[entry["name"]] = {m: np.stack([r[m] for r in right[1:]]) for m in ONE_TEXT}
        told = (f"{m} {known[entry['name']][m].mean():.2f} -> {new[entry['name']][m].mean():.2f}" for m in ONE_TEXT[1:])
        say(f"{entry['name']}: {'  '.join(told)}")
    return Rewording(known, new)


@dataclass(frozen=True)
class Rewording:
    """Which rows were right, by set and method.

    Attributes:
        known: under the wording that training used (n,).
        new: under each of the others (W, n).
    """

    known: Mapping[str, Mapping[str, NDArray[np.bool_]]]
    new: Mapping[str, Mapping[str, NDArray[np.bool_]]]

    def summary(self, *, resamples: int = 1000) -> dict[str, Any]:
        """Mean accuracies over sets, their loss with an interval, and the loss as a share of direct's.

        Intervals are percentiles over resampled rows; known and new wordings share their rows.
        """
        random = np.random.default_rng(0)
        rows = {
            name: np.concatenate([np.arange(n)[None], random.integers(0, n, (resamples, n))])
            for name, n in ((name, len(next(iter(methods.values())))) for name, methods in self.known.items())
        }
        out: dict[str, Any] = {"sets": {}, "methods": {}}
        losses = {}
        for method in ONE_TEXT[1:]:
            known = np.mean([self.known[s][method][r].mean(1) for s, r in rows.items()], 0)
            new = np.mean([self.new[s][method].mean(0)[r].mean(1) for s, r in rows.items()], 0)
            losses[method] = known - new
            low, high = np.percentile(losses[method][1:], (2.5, 97.5))
            out["methods"][method] = {
                "known": float(known[0]),
                "new": float(new[0]),
                "loss": float(known[0] - new[0]),
                "interval": [float(low), float(high)],
            }
        low, high = np.percentile((losses["blend"] - losses["direct"] / 2)[1:], (2.5, 97.5))
        out["blend_minus_half_of_direct"] = {
            "difference": float(losses["blend"][0] - losses["direct"][0] / 2),
            "interval": [float(low), float(high)],
        }
        for name in self.known:
            out["sets"][name] = {
                m: [float(self.known[name][m].mean()), *(float(x) for x in self.new[name][m].mean(1))]
                for m in ONE_TEXT[1:]
            }
        return out


def rewording_markdown(summary: Mapping[str, Any]) -> str:
    """The figures of `Rewording.summary` as tables."""
    methods = summary["methods"]
    lines = ["| | " + " | ".join(methods) + " |", "|---|" + "---:|" * len(methods)]
    for row, title in (("known", "accuracy, words of the training"), ("new", "accuracy, new words")):
        lines.append(f"| {title} | " + " | ".join(f"{m[row]:.3f}" for m in methods.values()) + " |")
    losses = [
        f"{100 * m['loss']:.1f} ({100 * m['interval'][0]:.1f} to {100 * m['interval'][1]:.1f})"
        for m in methods.values()
    ]
    lines.append("| loss in points | " + " | ".join(losses) + " |")
    lines += ["", "| set: known / new .. | " + " | ".join(methods) + " |", "|---|" + "---:|" * len(methods)]
    for name, values in summary["sets"].items():
        cells = [" / ".join(f"{v:.2f}" for v in values[m]) for m in methods]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def judge_wording(
    model: LanguageModel,
    entry: Mapping[str, Any],
    instruction: str,
    labels: tuple[str, ...],
    examples: Sequence[Example],
    gold: NDArray[np.int64],
) -> Judged:
    """All terms from one pass through the model, and every method from the terms."""
    conventions = model.conventions
    scorer = Scorer("blend", conventions.length_rules, 1.0, conventions.blend, conventions.slots)
    everything = Scorer(
        "blend", conventions.length_rules, 1.0, {"direct": 1.0, "flipped": 1.0, PRIOR: 1.0}, conventions.slots
    )
    labeller = Labeller(model, everything, InstructionTemplate(instruction, ["text"]))
    rows = labeller.score(examples, [labels] * len(examples))
    terms = {t: np.array([row.terms[t] for row in rows]) for t in everything.terms}
    free_example = examples[0]
    rendering = labeller.template.render(free_example)
    free_rows = labeller.score_renderings(
        [rendering.with_inputs(text) for text in calibrations.CONTENT_FREE], [labels] * len(calibrations.CONTENT_FREE)
    )
    baseline = pretrained_cosines([*(e.fields["text"] for e in examples), *calibrations.CONTENT_FREE], labels)

    def blend(table: Mapping[str, Sequence[float]]) -> NDArray[np.float64]:
        return log_softmax(scorer.score({t: table[t] for t in scorer.terms}))

    log_blend = np.stack([blend(row.terms) for row in rows])
    log_cosine = log_softmax(_SHARPNESS * baseline[: len(examples)])
    free_blend = np.stack([blend(row.terms) for row in free_rows])
    free_cosine = log_softmax(_SHARPNESS * baseline[len(examples) :])
    product = log_softmax(terms["direct"]) + log_softmax(terms["flipped"])
    scores = {
        "cosine": log_cosine,
        "direct": terms["direct"],
        "flipped": terms["flipped"],
        "product": product,
        "similarity": terms[PRIOR],
        "blend": log_blend,
        "cosine, contextual": log_cosine - calibrations.bias(free_cosine),
        "blend, contextual": log_blend - calibrations.bias(free_blend),
        "cosine, batch": log_cosine - calibrations.bias(log_cosine),
        "blend, batch": log_blend - calibrations.bias(log_blend),
    }
    predicted = {method: table.argmax(1) for method, table in scores.items()}
    predicted["majority"] = np.full(len(gold), np.bincount(gold, minlength=len(labels)).argmax())
    return Judged(
        entry["name"], entry.get("family", entry["name"]), instruction, labels, gold, predicted, np.exp(log_blend)
    )


def pretrained_cosines(texts: Sequence[object], labels: Sequence[str]) -> NDArray[np.float64]:
    """Cosines of texts and labels under the sentence encoder as it was published; shape (texts, labels).

    Raises:
        ModelError: the training-time package that holds it is not installed.
    """
    from obverse.models.sentence_encoder import sentence_vectors

    encoder, tokenizer = _pretrained()
    vectors = [sentence_vectors(encoder, tokenizer, [str(t) for t in some]) for some in (texts, labels)]
    return np.asarray(vectors[0] @ vectors[1].T, dtype=np.float64)


@functools.cache
def _pretrained() -> tuple[Any, Any]:
    from obverse.training.warm_start import sentence_encoder, sentence_encoder_folder, tokenizer_with_sentinels

    folder = sentence_encoder_folder()
    return sentence_encoder(folder).eval(), tokenizer_with_sentinels(folder)


def _confusion(judged: Judged, method: str) -> NDArray[np.int64]:
    return confusion_counts(judged.gold, judged.predicted[method], classes=len(judged.labels))


def summarize(judged: Sequence[Judged]) -> dict[str, Any]:
    """Means, paired differences of the blend against every other method, and calibration error, as plain values."""
    methods = (*ONE_TEXT, *CALIBRATED)
    pairs: list[dict[str, Any]] = [
        {
            "set": j.name,
            "family": j.family,
            "instruction": j.instruction,
            "labels": list(j.labels),
            "rows": len(j.gold),
            "macro_f1": {m: float(macro_f1(_confusion(j, m))) for m in methods},
            "accuracy": {m: float(accuracy(_confusion(j, m))) for m in methods},
            "blend_accuracy_interval": list(wilson(int((j.predicted["blend"] == j.gold).sum()), len(j.gold))),
            "blend_calibration_error": expected_calibration_error(
                j.probabilities.max(1), j.predicted["blend"] == j.gold
            ),
        }
        for j in judged
    ]
    by_set: dict[str, list[Judged]] = {}
    for j in judged:
        by_set.setdefault(j.name, []).append(j)
    differences = {}
    for method in methods:
        if method == "blend":
            continue
        ours = "blend, batch" if method == "cosine, batch" else "blend"
        ours = "blend, contextual" if method == "cosine, contextual" else ours
        # Wordings of one set share their rows, so they are resampled together.
        table = [
            (
                group[0].gold,
                np.stack([g.predicted[ours] for g in group]),
                np.stack([g.predicted[method] for g in group]),
            )
            for group in by_set.values()
        ]
        found = mean_paired_difference(table, macro_f1)
        differences[f"{ours} - {method}"] = {
            "difference": found.difference,
            "interval": list(found.interval),
            "p_value": found.p_value,
        }
    return {
        "pairs": pairs,
        "mean_macro_f1": {m: float(np.mean([p["macro_f1"][m] for p in pairs])) for m in methods},
        "mean_accuracy": {m: float(np.mean([p["accuracy"][m] for p in pairs])) for m in methods},
        "differences_macro_f1": differences,
        "blend_calibration_error": float(np.mean([p["blend_calibration_error"] for p in pairs])),
    }


def markdown(summary: Mapping[str, Any]) -> str:
    """The figures as a page."""
    lines = [
        "| set | labels | n | " + " | ".join(ONE_TEXT) + " |",
        "|---|---|---:|" + "---:|" * len(ONE_TEXT),
    ]
    for pair in summary["pairs"]:
        labels = ", ".join(pair["labels"][:3]) + (f", .. ({len(pair['labels'])})" if len(pair["labels"]) > 3 else "")
        best = max(pair["macro_f1"][m] for m in ONE_TEXT)
        cells = [
            f"**{pair['macro_f1'][m]:.3f}**" if pair["macro_f1"][m] == best else f"{pair['macro_f1'][m]:.3f}"
            for m in ONE_TEXT
        ]
        lines.append(f"| {pair['set']} | {labels} | {pair['rows']} | " + " | ".join(cells) + " |")
    mean = summary["mean_macro_f1"]
    lines.append("| **mean macro-F1** | | | " + " | ".join(f"{mean[m]:.3f}" for m in ONE_TEXT) + " |")
    accuracies = summary["mean_accuracy"]
    lines.append("| mean accuracy | | | " + " | ".join(f"{accuracies[m]:.3f}" for m in ONE_TEXT) + " |")
    lines += ["", "| paired difference of mean macro-F1 | points | 95 % interval | p |", "|---|---:|---|---:|"]
    for name, found in summary["differences_macro_f1"].items():
        low, high = found["interval"]
        interval = f"{100 * low:+.1f} to {100 * high:+.1f}"
        lines.append(f"| {name} | {100 * found['difference']:+.1f} | {interval} | {found['p_value']:.3f} |")
    families: dict[str, list[Mapping[str, Any]]] = {}
    for pair in summary["pairs"]:
        families.setdefault(pair["family"], []).append(pair)
    lines += ["", "| kind of task | pairs | " + " | ".join(ONE_TEXT) + " |", "|---|---:|" + "---:|" * len(ONE_TEXT)]
    for family, pairs in families.items():
        cells = [f"{np.mean([pair['macro_f1'][m] for pair in pairs]):.3f}" for m in ONE_TEXT]
        lines.append(f"| {family} | {len(pairs)} | " + " | ".join(cells) + " |")
    lines += ["", "| with a calibration | mean macro-F1 |", "|---|---:|"]
    lines += [f"| {m} | {mean[m]:.3f} |" for m in CALIBRATED]
    lines += [
        "",
        f"Expected calibration error of the blend, mean over pairs: {summary['blend_calibration_error']:.3f}.",
    ]
    return "\n".join(lines) + "\n"
