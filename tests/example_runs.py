"""Runs to report on, written with `RunWriter`: seeded answers, no model."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from obverse.runs.records import Manifest, Record
from obverse.runs.store import Run, RunWriter, read_run

SCRIPT = "<script>alert(1)</script>"


def manifest(**changes: Any) -> Manifest:
    """A manifest with two methods and one task, `pets`."""
    values: dict[str, Any] = {
        "suite": "own",
        "suite_digest": "5u17e",
        "model": "runs/mini",
        "model_digest": "40de1" * 4,
        "methods": ("direct", "flipped"),
        "data": {"pets": "da7a"},
        "settings": {"tasks": {"pets": {"metric": "accuracy"}}},
        "created": "2026-01-02T03:04:05+00:00",
    }
    return Manifest(**{**values, **changes})


def answered(row: str, **changes: Any) -> Record:
    """A record of `pets` with two options, the first of which is right and was chosen."""
    values: dict[str, Any] = {
        "task": "pets",
        "split": "test",
        "row": row,
        "position": int(row) if row.isdecimal() else 0,
        "template": "t1",
        "method": "direct",
        "options": ("cat", "dog"),
        "chosen": 0,
        "gold": (0,),
    }
    return Record(**{**values, **changes})


def outcomes(pattern: Mapping[tuple[str, str], str], **changes: Any) -> list[Record]:
    """Records of `pets`: (template, method) -> a letter a row, `+` right, `-` wrong, `.` unanswered."""
    return [
        answered(
            str(i),
            template=template,
            method=method,
            **{
                "chosen": {"+": 0, "-": 1, ".": None}[letter],
                "reason": "" if letter != "." else "too long",
                **changes,
            },
        )
        for (template, method), letters in pattern.items()
        for i, letter in enumerate(letters)
    ]


def write(folder: Path, of: Manifest, records: Iterable[Record], *, finish: bool = True) -> Run:
    """A run in a folder."""
    with RunWriter.create(folder, of) as writer:
        writer.append(records)
        if finish:
            return writer.finish({}, at="2026-01-02T04:05:06+00:00")
    return read_run(folder)


def templates_run(folder: Path, *, seed: int = 0, rows: int = 40, finish: bool = True, **changes: Any) -> Run:
    """Three tasks, several templates, three methods, with figures of others: as a suite of templates leaves it."""
    rng = random.Random(seed)
    tasks = {
        "super_glue/rte": (("True", "False"), 6, 0.66),
        "super_glue/cb": (("Yes", "No", "Maybe"), 5, 0.52),
        "super_glue/copa": ((), 4, 0.71),  # every row has options of its own
    }
    methods = {"direct": 0.0, "flipped": 0.09, "flipped, contextual": 0.1}
    records = []
    for task, (labels, templates, ease) in tasks.items():
        golds = [rng.randrange(len(labels) or 2) for _ in range(rows)]
        hard = [rng.gauss(0, 0.25) for _ in range(rows)]
        for t in range(templates):
            shift = rng.gauss(0, 0.07)
            for method, gain in methods.items():
                for i in range(rows):
                    options = labels or (f"the door was open {i}", f"the rain fell {i}")
                    chance = min(0.98, max(0.02, ease + gain + shift + hard[i]))
                    records.append(_scored(rng, task, i, f"template {t + 1}", method, options, golds[i], chance))
    settings = {
        "title": "Tasks held out from T0",
        "metrics": ["accuracy"],
        "limit": rows,
        "demonstrations": None,
        "length_rules": {"direct": "sum", "flipped": "mean"},
        "temperatures": {"direct": 1.0, "flipped": 0.5},
        "tasks": {
            "super_glue/rte": {"metric": "accuracy", "chance": 0.5, "note": "", "seen": False},
            "super_glue/cb": {"metric": "accuracy", "chance": 1 / 3, "note": "56 rows only", "seen": False},
            "super_glue/copa": {"metric": "accuracy", "chance": 0.5, "note": "", "seen": False},
        },
        "settings": [],
        "published": [
            {
                "model": "T0-3B",
                "source": "arXiv 2110.08207",
                "figures": {"super_glue/rte": 60.61, "super_glue/cb": 48.81, "super_glue/copa": 75.13, "mean": 61.5},
            },
            {"model": "Flipped-3B", "source": "arXiv 2210.02969", "figures": {"super_glue/rte": 71.05, "mean": 72.9}},
        ],
        "claims": ["Flipped-11B is 8.4 points over T0-11B (arXiv 2210.02969)."],
    }
    values: dict[str, Any] = {
        "suite": "t0-heldout",
        "methods": tuple(methods),
        "data": {**{name: f"digest of {name}" for name in tasks}, "anli/r1": "digest of anli"},
        "settings": settings,
        "missing": {"anli/r1": "the data folder has no p3/anli"},
        "notes": ["Demonstrations were not asked for."],
        "seeds": {"data": 0},
        "device": "cpu",
    }
    return write(folder, manifest(**{**values, **changes}), records, finish=finish)


def wordings_run(folder: Path, *, seed: int = 1, rows: int = 60, wordings: int = 10) -> Run:
    """Two tasks, one template each under many wordings: as label generalisation leaves it."""
    rng = random.Random(seed)
    words = ["", "agree/disagree", "true/false", "correct/incorrect", "right/wrong", "sure/unsure", "yep/nope"]
    words += [f"option {i}" for i in range(len(words), wordings)]
    records = []
    for task, ease in {"super_glue/rte": 0.62, "paws/labeled_final": 0.7}.items():
        golds = [rng.randrange(2) for _ in range(rows)]
        for method, gain in {"direct": 0.0, "flipped": 0.1}.items():
            for wording in words[:wordings]:
                shift = (0.05 if not wording else rng.gauss(-0.05, 0.1)) * (1.0 if method == "direct" else 0.4)
                options = tuple(wording.split("/")) if "/" in wording else ("yes", "no")
                for i in range(rows):
                    chance = min(0.98, max(0.02, ease + gain + shift))
                    record = _scored(rng, task, i, "can we infer", method, options, golds[i], chance, wording=wording)
                    records.append(record)
    settings = {
        "title": "The same tasks under other words for their labels",
        "metrics": ["macro_f1"],
        "tasks": {
            "super_glue/rte": {"metric": "macro_f1", "chance": 0.5},
            "paws/labeled_final": {"metric": "macro_f1", "chance": 0.5, "seen": True},
        },
    }
    data = {"super_glue/rte": "1", "paws/labeled_final": "2"}
    return write(folder, manifest(suite="label-generalization", data=data, settings=settings), records)


def settings_run(folder: Path, *, seed: int = 2, rows: int = 50) -> Run:
    """Two tasks in the four settings of symbol tuning."""
    rng = random.Random(seed)
    names = ("relevant labels, instruction", "relevant labels", "symbols, instruction", "symbols")
    records = []
    for task, ease in {"subj": 0.74, "tweet_eval/hate": 0.6}.items():
        golds = [rng.randrange(2) for _ in range(rows)]
        for setting, loss in zip(names, (0.0, 0.03, 0.12, 0.16), strict=True):
            for method, gain in {"direct": 0.0, "flipped": 0.04}.items():
                options = ("objective", "subjective") if "relevant" in setting else ("7", "apple")
                for i in range(rows):
                    chance = ease - loss + gain
                    records.append(_scored(rng, task, i, "", method, options, golds[i], chance, setting=setting))
    settings = {
        "title": "In-context learning with and without instruction and natural labels",
        "metrics": ["accuracy", "macro_f1"],
        "tasks": {"subj": {"metric": "accuracy", "chance": 0.5}, "tweet_eval/hate": {"metric": "accuracy"}},
        "settings": list(names),
        "published": [
            {
                "model": "Flan-PaLM 8B",
                "source": "arXiv 2305.08298",
                "figures": dict(zip(names, (63.9, 61.6, 42.4, 44.2), strict=True)),
            },
            {
                "model": "Flan-PaLM 8B, symbol-tuned",
                "source": "arXiv 2305.08298",
                "figures": dict(zip(names, (57.6, 54.3, 58.2, 52.8), strict=True)),
            },
        ],
    }
    data = {"subj": "1", "tweet_eval/hate": "2"}
    return write(folder, manifest(suite="icl-settings", data=data, settings=settings), records)


def flipped_run(folder: Path, *, seed: int = 3, rows: int = 50) -> Run:
    """Two tasks whose gold answers carry the other label."""
    rng = random.Random(seed)
    records = []
    for task, ease in {"subj": 0.42, "raft/overruling": 0.57}.items():
        for method, gain in {"direct": 0.0, "flipped": 0.07}.items():
            for i in range(rows):
                gold = i % 2
                records.append(_scored(rng, task, i, "", method, ("objective", "subjective"), gold, ease + gain))
    settings = {
        "title": "Two-class tasks with their labels exchanged",
        "metrics": ["accuracy"],
        "tasks": {name: {"metric": "accuracy", "chance": 0.5} for name in ("subj", "raft/overruling")},
        "claims": ["Symbol tuning gains 26.5 to 34.0 points on flipped labels (arXiv 2305.08298)."],
    }
    data = {"subj": "1", "raft/overruling": "2"}
    return write(folder, manifest(suite="flipped-labels", data=data, settings=settings), records)


def generated_run(folder: Path, *, seed: int = 4, rows: int = 12) -> Run:
    """Two tasks of generated answers, with and without demonstrations."""
    rng = random.Random(seed)
    words = ["the", "cat", "sat", "on", "a", "mat", "while", "it", "rained", "outside"]
    records = []
    for task in ("superni/task1", "superni/task2"):
        for setting, kept in (("zero-shot", 0.5), ("ICIL", 0.75)):
            for i in range(rows):
                reference = " ".join(rng.sample(words, 5))
                said = " ".join(word for word in reference.split() if rng.random() < kept) or "nothing"
                records.append(
                    Record(
                        task=task,
                        split="test",
                        row=f"{task}-{i}",
                        position=i,
                        method="generate",
                        setting=setting,
                        prediction=None if i == 3 else said,
                        references=(reference,),
                        reason="longer than the window" if i == 3 else "",
                        cut=2 if i == 5 else 0,
                    )
                )
    names = ("superni/task1", "superni/task2")
    settings = {
        "title": "Test tasks of Super-NaturalInstructions",
        "metrics": ["rouge_l", "exact_match"],
        "tasks": {name: {"metric": "rouge_l", "chance": None} for name in names},
        "settings": ["zero-shot", "ICIL"],
        "demonstrations": {"name": "default", "digest": "d", "count": 8},
        "published": [
            {"model": "GPT-J", "source": "arXiv 2302.14691", "figures": {"zero-shot": 27.84, "ICIL": 30.78}},
        ],
    }
    data = dict.fromkeys(names, "1")
    return write(folder, manifest(suite="superni-test", methods=("generate",), data=data, settings=settings), records)


def hostile_run(folder: Path) -> Run:
    """Every name holds markup, and the settings are of the wrong kinds."""
    hostile = f"\"'>{SCRIPT}</svg></style>&amp;|`"
    of = manifest(
        suite=hostile,
        model=hostile,
        methods=(hostile, "direct"),
        data={hostile: "1", "other": "2"},
        missing={SCRIPT: SCRIPT},
        notes=[SCRIPT],
        device=SCRIPT,
        settings={
            "title": hostile,
            "metrics": "accuracy",
            "tasks": {hostile: {"metric": SCRIPT, "chance": "x", "note": SCRIPT}, "other": 3},
            "temperatures": {hostile: -1, "direct": SCRIPT},
            "published": [{"model": SCRIPT, "source": SCRIPT, "figures": {hostile: 50, "mean": 10**400}}, 7],
            "claims": [SCRIPT],
            "settings": {"a": 1},
        },
    )
    records = [
        answered(
            f"{SCRIPT}{i}",
            position=i,
            task=task,
            split=hostile,
            template=f"{hostile}{t}",
            method=method,
            wording=wording,
            setting=hostile,
            options=(hostile, "dog"),
            chosen=(i * t) % 2 if method == "direct" else i % 2,
            gold=(i % 2,),
            scores=(0.5, 0.1),
            reason="" if i else SCRIPT,
            shortened=3,
            tied=not i,
        )
        for task in (hostile, "other")
        for t in range(4)
        for method in (hostile, "direct")
        for wording in ("", SCRIPT)
        for i in range(6)
    ]
    return write(folder, of, records)


def _scored(
    rng: random.Random,
    task: str,
    i: int,
    template: str,
    method: str,
    options: tuple[str, ...],
    gold: int,
    chance: float,
    **names: str,
) -> Record:
    """An answer that is right with the given chance, with scores that know it a little."""
    right = rng.random() < chance
    chosen = gold if right else rng.choice([k for k in range(len(options)) if k != gold])
    sure = rng.gauss(1.2 if right else 0.7, 0.4)
    scores = tuple(-abs(sure) * (k != chosen) - rng.random() * 0.01 for k in range(len(options)))
    unanswered = i == 7 and template == "template 2"
    return Record(
        task=task,
        split="validation",
        row=f"{task}-{i}",
        position=i,
        template=template,
        method=method,
        options=options,
        scores=() if unanswered else scores,
        chosen=None if unanswered else chosen,
        gold=(gold,),
        shortened=120 if i == 11 else 0,
        cut=4 if i == 13 and method == "direct" else 0,
        tied=i == 17 and method == "direct",
        reason="the template does not fit the row" if unanswered else "",
        **names,
    )
