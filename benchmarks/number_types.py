"""What weights in bf16 and int8 gain in speed, and what they change in the answers.

    python benchmarks/number_types.py --data DATA [--rows N] [--rounds N] [--output docs/results]

Two parts. The bundled model labels rows of real sets, in the first wording that `bundled/judge.toml` has for each, by
two methods. Networks with seeded weights answer cases of the benchmark of scoring. All is asked in fp32 and in every
number type that the processor has instructions for, in each round in another order. Writes number_types.md and
number_types.json; the exit code is 2 where the data folder or the output is not as it must be.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# The folder of the benchmarks, also where this file is imported.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from obverse.catalog.promptsource import read_split
from obverse.errors import DataError, ModelError, ObverseError
from obverse.labelling import Labeller, make_scorer
from obverse.metrics.classification import accuracy
from obverse.metrics.intervals import mean_paired_difference, wilson
from obverse.models.base import LanguageModel
from obverse.models.checkpoints import load_model
from obverse.models.precision import NUMBER_TYPES
from obverse.queries import Query
from obverse.recipes.output_files import refuse_unwritable, write_json, write_text
from obverse.tasks.examples import Example
from obverse.tasks.templates import InstructionTemplate
from scoring_speed.cases import CASES, FAMILIES, Words, requests
from scoring_speed.models import build_network, language_model, load_tokenizer
from scoring_speed.run import machine

# Axes: N texts, K options.

EXACT = NUMBER_TYPES[0]
METHODS = ("blend", "flipped")
PLAN = Path(__file__).resolve().parents[1] / "bundled" / "judge.toml"
SETS = (
    "cr",
    "subj",
    "emotion",
    "sms_spam",
    "financial_phrasebank/sentences_50agree",
    "banking77",
    "clinc_oos/plus",
    "tweet_eval/sentiment",
    "tweet_eval/irony",
    "hate_speech_offensive",
    "ag_news",
    "yelp_review_full",
)
NETWORK_CASES = ("single", "direct")
INSTANCES = 60
INSTRUCTIONS: Mapping[str, Callable[[], bool]] = {
    "avx512_bf16": torch.cpu._is_avx512_bf16_supported,
    "vnni": torch.cpu._is_vnni_supported,
    "amx": torch.cpu._is_amx_tile_supported,
}
SMALL_SETS, SMALL_ROWS, SMALL_INSTANCES = ("cr", "emotion"), 8, 4
WARM_UP = 4
"""Texts that are asked before the clock runs, for libraries load their parts at first use."""

Found = dict[str, Any]
"""Plain data, as it goes into the JSON file."""
Scores = NDArray[np.float64]
"""Of a text's options: (N, K)."""


@dataclass(frozen=True, slots=True)
class AskedSet:
    """Rows of one data set, and what is asked about them; gold has the right options' indices (N,)."""

    name: str
    instruction: str
    labels: tuple[str, ...]
    examples: Sequence[Example]
    gold: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model answered in every number type that was measured.

    Attributes:
        gold: the right options' indices (N,); None where there are none.
        scores: number type -> what is compared to choose an option.
        probabilities: number type -> of the options; None where none are made.
        seconds: number type -> of each round.
    """

    name: str
    method: str
    gold: NDArray[np.int64] | None
    scores: Mapping[str, Scores]
    probabilities: Mapping[str, Scores] | None
    seconds: Mapping[str, Sequence[float]]


# What is asked


def open_sets(data: Path, names: Sequence[str], rows: int) -> list[AskedSet]:
    """The sets with at most so many rows each, drawn as the plan says.

    Raises:
        DataError: the folder lacks one of them.
    """
    if not (data / "p3").is_dir():
        raise DataError("there is no such folder", where=str(data / "p3"), mend="--data names the one that holds p3/.")
    plan = tomllib.loads(PLAN.read_text(encoding="utf-8"))
    entries = {entry["name"]: entry for entry in plan["sets"]}
    out = []
    for name in names:
        entry, wording = entries[name], entries[name]["wordings"][0]
        label, text, values = entry["label"], entry["text"], entry["values"]
        kept = []
        for row in read_split(data, name, entry["split"]):
            if label not in row.fields or text not in row.fields:
                raise DataError(f"has no columns {text!r} and {label!r}", where=str(data / "p3" / name))
            if row.fields[label] in values:
                kept.append(row)
        if not kept:
            raise DataError(f"no row has one of the labels {values}", where=str(data / "p3" / name))
        Random(plan["seed"]).shuffle(kept)
        examples = [Example(row.id, {"text": str(row.fields[text]).strip()}, where=row.where) for row in kept[:rows]]
        gold = np.array([values.index(row.fields[label]) for row in kept[:rows]])
        labels = _label_names(data, name, values) if wording.get("names") else tuple(wording["labels"])
        out.append(AskedSet(name, wording["instruction"], labels, examples, gold))
    return out


def _label_names(data: Path, name: str, values: Sequence[int]) -> tuple[str, ...]:
    path = data / "index.json"
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["p3"]
        names = next(entry["label_names"] for entry in listed if entry["name"] == name)
        return tuple(names[value].replace("_", " ") for value in values)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration):
        raise DataError(f"does not say what the labels of {name} are called", where=str(path)) from None


# How it is measured


def models_by_type(make: Callable[[], LanguageModel]) -> tuple[dict[str, LanguageModel], dict[str, str]]:
    """A model in each number type that the processor is made for, and why not in the others."""
    models, lacking = {}, {}
    for number_type in NUMBER_TYPES:
        model = make()
        try:
            model.set_number_type(number_type)
        except ModelError as error:
            lacking[number_type] = error.what
        else:
            models[number_type] = model
    return models, lacking


def timed(
    makers: Mapping[str, Callable[[], Callable[[], Any]]], rounds: int
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """What each number type answered, and its seconds in each round.

    Args:
        makers: number type -> what makes ready, off the clock, and gives what is to be timed.
    """
    names = list(makers)
    answers: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            act = makers[name]()
            began = time.perf_counter()
            answers[name] = act()
            seconds[name].append(time.perf_counter() - began)
    return answers, seconds


def ask_sets(models: Mapping[str, LanguageModel], sets: Sequence[AskedSet], rounds: int) -> list[Answers]:
    """The bundled model on every set, by every method."""
    out = []
    for asked in sets:
        options = [asked.labels] * len(asked.examples)
        template = InstructionTemplate(asked.instruction, ["text"])
        for method in METHODS:
            scorers = {t: make_scorer(model.conventions, method=method) for t, model in models.items()}
            labellers = {t: Labeller(model, scorers[t], template) for t, model in models.items()}
            for labeller in labellers.values():
                labeller.score(asked.examples[:WARM_UP], options[:WARM_UP])
            makers = {t: partial(partial, each.score, asked.examples, options) for t, each in labellers.items()}
            rows, seconds = timed(makers, rounds)
            scores = {t: np.stack([scorers[t].score(row.terms) for row in rows[t]]) for t in models}
            probabilities = {t: np.exp([scorers[t].log_probabilities(row.terms) for row in rows[t]]) for t in models}
            out.append(Answers(asked.name, method, asked.gold, scores, probabilities, seconds))
            print(brief(out[-1]), flush=True)
    return out


def ask_networks(types: Sequence[str], size: str, instances: int, rounds: int, folder: Path) -> list[Answers]:
    """Networks with seeded weights on the cases of the benchmark of scoring."""
    out = []
    for case, family in ((c, f) for c in CASES if c.name in NETWORK_CASES for f in FAMILIES[c.kind]):
        tokenizer = load_tokenizer(family, size, folder)
        words = Words(partial(_counts, tokenizer))
        queries = [[Query(*each) for each in instance] for instance in requests(case, words, instances)]
        act = partial(_ready, build_network(family, size, "cpu"), tokenizer)
        for number_type in types:
            act(number_type, queries[:WARM_UP])()
        found, seconds = timed({number_type: partial(act, number_type, queries) for number_type in types}, rounds)
        scores = {t: np.array([each.nats for each in found[t]]).reshape(len(queries), -1) for t in types}
        out.append(Answers(f"{case.name}, {family} of size {size}", case.form, None, scores, None, seconds))
        print(brief(out[-1]), flush=True)
    return out


def _counts(tokenizer: Any, texts: list[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _ready(network: Any, tokenizer: Any, number_type: str, queries: Sequence[Sequence[Query]]) -> Callable[[], Any]:
    # A new model each time: beginnings that a causal one has read are kept between its calls.
    model = language_model(copy.deepcopy(network), tokenizer)
    model.set_number_type(number_type)
    return partial(model.log_likelihoods, [query for instance in queries for query in instance])


# What came of it


def compared(answers: Sequence[Answers], number_type: str) -> Found:
    """The figures of a number type over all texts of some sets or of a network, and what differs from fp32.

    Accuracies are means over sets, which weigh the same.
    """
    chosen = [a.scores[number_type].argmax(1) for a in answers]
    texts, seconds = sum(map(len, chosen)), sum(statistics.median(a.seconds[number_type]) for a in answers)
    found: Found = {"texts": texts, "seconds": seconds, "texts_per_second": texts / seconds}
    judged = [(a.gold, own) for a, own in zip(answers, chosen, strict=True) if a.gold is not None]
    if judged:
        found["accuracy"] = float(np.mean([np.mean(gold == own) for gold, own in judged]))
    if number_type == EXACT:
        return found
    exact = [a.scores[EXACT].argmax(1) for a in answers]
    differ = np.concatenate(chosen) != np.concatenate(exact)
    gaps = np.concatenate([np.abs(a.scores[number_type] - a.scores[EXACT]).ravel() for a in answers])
    by_round = [
        [sum(some) for some in zip(*(a.seconds[t] for a in answers), strict=True)] for t in (EXACT, number_type)
    ]
    found |= {
        "differ": int(differ.sum()),
        "differ_interval": list(wilson(int(differ.sum()), texts)),
        "score_median": float(np.median(gaps)),
        "score_largest": float(gaps.max()),
        "faster": sum(statistics.median(a.seconds[EXACT]) for a in answers) / seconds,
        "faster_by_round": [before / own for before, own in zip(*by_round, strict=True)],
    }
    probabilities = [a.probabilities for a in answers if a.probabilities is not None]
    if probabilities:
        ahead = np.concatenate([_lead(each[EXACT]) for each in probabilities])
        found |= {
            "probability_largest": float(max(np.abs(p[number_type] - p[EXACT]).max() for p in probabilities)),
            "lead_where_differ": float(ahead[differ].max()) if differ.any() else None,
        }
    if judged:
        three = [(gold, own, before) for (gold, own), before in zip(judged, exact, strict=True)]
        paired = mean_paired_difference(three, accuracy)
        found |= {"accuracy_difference": paired.difference, "accuracy_interval": list(paired.interval)}
    return found


def _lead(probabilities: Scores) -> NDArray[np.float64]:
    """By how much the most probable option is before the next (N,)."""
    ordered = np.sort(probabilities, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def brief(answers: Answers) -> str:
    """A line on one set or network for those who wait."""
    parts = []
    for number_type in answers.scores:
        found = compared([answers], number_type)
        told = f"{number_type} {_rate(found)} texts/s"
        parts.append(told if number_type == EXACT else f"{told}, {found['differ']} of {found['texts']} differ")
    return f"{answers.name}, {answers.method}: {'; '.join(parts)}"


def report(content: Found) -> str:
    """The tables, and what they say."""
    of, settings, mini, networks = (content[key] for key in ("machine", "settings", "mini", "networks"))
    lowered = content["lowered"]
    rounds = f"medians of {settings['rounds']} rounds" if settings["rounds"] > 1 else "one round"
    versions = ", ".join(f"{name} {of['versions'][name]}" for name in ("obverse", "torch", "transformers"))
    extras = "".join(f" --{key}" if value is True else f" --{key} {value}" for key, value in content["given"].items())
    lines = [
        "# Weights in bf16 and int8",
        "",
        f"{of['processor']}, {of['cores']} cores ({', '.join(content['instructions']) or 'neither bf16 nor int8'}); "
        f"threads: {content['threads']}; load before the run {content['load_before']:.1f}. {versions}.",
        f"Command: `python benchmarks/number_types.py --data DATA{extras}`.",
        f"Times: {rounds}, in each of which the number types take turns in another order; in brackets the "
        "lowest and the highest ratio of a round.",
        "Intervals of 95 %: of shares Wilson's, of the accuracy's difference a bootstrap over rows, sets fixed.",
        "",
        *conclusions(content),
        "",
        f"## obverse-mini on {len(mini['sets'])} real sets, at most {settings['rows']} rows each",
        "",
        "| method | weights | labels that differ | accuracy | minus fp32's, points | score, median | score, largest | "
        "probability, largest | texts/s | faster |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for method, found in mini["methods"].items():
        lines += [f"| {method} | {t} | {' | '.join(_mini_cells(each))} |" for t, each in found.items()]
        lines += [f"| {method} | {t} | not measured: {why} |{' |' * 7}" for t, why in content["lacking"].items()]
    lines += [
        "",
        "Accuracies are means over the sets. `score`: by how much an option's differs. Of `flipped` it is the",
        "instruction's log-likelihood in nats a token, of `blend` that one, normalised over the options, and the",
        "similarity, both weighted. `probability`: the same of an option's probability.",
        "",
        "| "
        + " | ".join(["set", "method", "options", "rows", "fp32 texts/s", *(f"{t}: differ, faster" for t in lowered)])
        + " |",
        "|---|---|" + "---:|" * (3 + len(lowered)),
    ]
    for each in mini["sets"]:
        for method, found in each["methods"].items():
            cells = [f"{found[t]['differ']}, {found[t]['faster']:.2f} x" for t in lowered]
            cells = [each["set"], method, str(each["options"]), str(each["rows"]), _rate(found[EXACT]), *cells]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"## Networks with seeded weights, {settings['instances']} instances",
        "",
        "Cases and networks of the benchmark of scoring. Weights that nobody trained choose among options that hardly",
        "differ, so shares of decisions say less than those above.",
        "",
        "| case | weights | seconds | faster | nats, median | nats, largest | decisions that differ |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, found in networks.items():
        lines += [f"| {name} | {t} | {' | '.join(_network_cells(each))} |" for t, each in found.items()]
        lines += [f"| {name} | {t} | not measured: {why} |{' |' * 4}" for t, why in content["lacking"].items()]
    return "\n".join(lines) + "\n"


def conclusions(content: Found) -> list[str]:
    """A few sentences on each number type, from the figures."""
    lines = [f"* {t} was not measured: {why}." for t, why in content["lacking"].items()]
    for t in content["lowered"]:
        told = []
        for method, found in ((method, found[t]) for method, found in content["mini"]["methods"].items()):
            low, high = (100 * end for end in found["accuracy_interval"])
            points = f"{100 * found['accuracy_difference']:+.2f} points ({low:+.2f} to {high:+.2f})"
            verdict = "more accurate" if low > 0 else "less accurate" if high < 0 else "no difference in accuracy found"
            near = found["lead_where_differ"]
            differ = f"{found['differ']} of {found['texts']:,} labels differ" + (
                "" if near is None else f" (in fp32 those were ahead by at most {near:.3f} in probability)"
            )
            told.append(f"with {method} {_pace(found['faster'])}, {differ}, {verdict}: {points}")
        ratios = [found[t]["faster"] for found in content["networks"].values()]
        lines.append(
            f"* {t}: {'; '.join(told)}. Networks with seeded weights: {min(ratios):.2f} to {max(ratios):.2f} times as "
            "fast as in fp32."
        )
    return lines


def _pace(faster: float) -> str:
    if abs(faster - 1) < 0.05:
        return f"as fast as fp32 ({faster:.2f} x)"
    return f"{faster:.2f} times as fast as fp32" + (", that is slower" if faster < 1 else "")


def _mini_cells(found: Found) -> list[str]:
    if "faster" not in found:
        return ["", f"{found['accuracy']:.3f}", "", "", "", "", _rate(found), ""]
    low, high = (100 * end for end in found["accuracy_interval"])
    return [
        _share(found),
        f"{found['accuracy']:.3f}",
        f"{100 * found['accuracy_difference']:+.2f} ({low:+.2f} to {high:+.2f})",
        f"{found['score_median']:.4f}",
        f"{found['score_largest']:.4f}",
        f"{found['probability_largest']:.3f}",
        _rate(found),
        _faster(found),
    ]


def _network_cells(found: Found) -> list[str]:
    if "faster" not in found:
        return [f"{found['seconds']:.2f}", "", "", "", ""]
    nats = [f"{found[key]:.4f}" for key in ("score_median", "score_largest")]
    return [f"{found['seconds']:.2f}", _faster(found), *nats, _share(found)]


def _share(found: Found) -> str:
    low, high = (100 * end for end in found["differ_interval"])
    share = 100 * found["differ"] / found["texts"]
    return f"{found['differ']} of {found['texts']:,}: {share:.1f} % ({low:.1f} to {high:.1f})"


def _faster(found: Found) -> str:
    return f"{found['faster']:.2f} x ({min(found['faster_by_round']):.2f} to {max(found['faster_by_round']):.2f})"


def _rate(found: Found) -> str:
    return f"{found['texts_per_second']:.1f}"


# The command


def measured(given: argparse.Namespace) -> Found:
    """All that is to be told.

    Raises:
        ObverseError: the data folder lacks a set, or the model's weights are not there.
    """
    torch.set_flush_denormal(True)
    content: Found = {
        "machine": machine(),
        "load_before": os.getloadavg()[0],
        "instructions": [name for name, here in INSTRUCTIONS.items() if here()],
        "threads": torch.get_num_threads(),
    }
    sets = open_sets(given.data, SMALL_SETS if given.small else SETS, given.rows)
    models, content["lacking"] = models_by_type(lambda: load_model("obverse-mini", device="cpu"))
    for number_type, why in content["lacking"].items():
        print(f"{number_type} is not measured: {why}", flush=True)
    types = list(models)
    mini = ask_sets(models, sets, given.rounds)
    given.work.mkdir(parents=True, exist_ok=True)
    size, instances = ("tiny", SMALL_INSTANCES) if given.small else ("50m", INSTANCES)
    networks = ask_networks(types, size, instances, given.rounds, given.work)
    by_method = {method: [each for each in mini if each.method == method] for method in METHODS}
    return content | {
        "settings": {"rows": given.rows, "rounds": given.rounds, "small": given.small, "instances": instances},
        "lowered": [number_type for number_type in types if number_type != EXACT],
        "mini": {
            "methods": {method: {t: compared(some, t) for t in types} for method, some in by_method.items()},
            "sets": [
                {
                    "set": asked.name,
                    "instruction": asked.instruction,
                    "options": len(asked.labels),
                    "rows": len(asked.examples),
                    "methods": {
                        method: {t: compared([each], t) for t in types}
                        for method, some in by_method.items()
                        for each in some
                        if each.name == asked.name
                    },
                }
                for asked in sets
            ],
        },
        "networks": {each.name: {t: compared([each], t) for t in types} for each in networks},
    }


def asked(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Found]:
    """The arguments, and those that are not the default's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds p3/ and index.json")
    parser.add_argument("--rows", type=int, help="of each set at most (100; with --small 8)")
    parser.add_argument("--rounds", type=int, help="of timing, in each another order (3; with --small 1)")
    parser.add_argument("--small", action="store_true", help="two sets and tiny networks: does it all work?")
    parser.add_argument("--work", type=Path, default=Path("runs/scoring_speed"), help="where tokenizers are kept")
    parser.add_argument("--output", type=Path, default=Path("docs/results"), help="folder of the two files")
    found = parser.parse_args(arguments)
    own = {k: v for k, v in vars(found).items() if k not in ("data", "work", "output") and v != parser.get_default(k)}
    found.rows = (SMALL_ROWS if found.small else 100) if found.rows is None else found.rows
    found.rounds = (1 if found.small else 3) if found.rounds is None else found.rounds
    if min(found.rows, found.rounds) < 1:
        parser.error("numbers are from 1 up")
    return found, own


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    given, own = asked(arguments)
    table, figures = (given.output / f"number_types.{ending}" for ending in ("md", "json"))
    try:
        for path in (table, figures):
            refuse_unwritable(path)
        content = {"given": own, **measured(given)}
        text = report(content)
        write_json(figures, content)
        write_text(table, text)
    except (ObverseError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
