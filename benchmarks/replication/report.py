"""Tables and a picture of the replication's scores: what each objective makes of label words it has and has not seen.

    python benchmarks/replication/report.py OUT/scores.jsonl --output docs/results

Intervals: 95 %, percentiles of 1,000 resamples of rows and, where an arm has several seeds, of seeds; the same rows are
drawn for all arms, so that differences are paired.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obverse.recipes.output_files import write_json, write_text

RESAMPLES = 1000
_HEAD = """# Objectives against each other, at small scale

Does flipping generalise to label words that training never used, as arXiv 2210.02969 says for 3 and 11 billion
parameters? The base is obverse-mini's with two decoder layers. Every arm sees the same 8,000 examples of seven data
sets, under the same 30 instructions a kind of question and two wordings of the labels; only the objective differs.
Judged on 200 rows of each set, all classes as options, under instructions that training never used, no calibration,
options compared by the mean over their tokens. `benchmarks/replication/sets.toml` has sets and words.

Columns: sets that were trained on, under the two known wordings and under new ones; sets that were not, but ask the
same kind of question, likewise; sets whose kind of question was never asked, whose words are all new. Cells:
macro-F1 with its 95 % interval over rows and, where there are several, seeds; accuracy.

![macro-F1 by arm](replication.png)

`python benchmarks/replication/run.py --data DATA --output OUT --arms ..`, then
`python benchmarks/replication/report.py OUT/scores.jsonl --output docs/results`.

"""
GROUPS = {
    "trained sets, known words": lambda r: r["role"] == "trained" and r["wording"] == "known",
    "trained sets, new words": lambda r: r["role"] == "trained" and r["wording"] == "new",
    "held-out sets, known words": lambda r: r["role"] == "held_out" and r["wording"] == "known",
    "held-out sets, new words": lambda r: r["role"] == "held_out" and r["wording"] == "new" and r["asked_in_training"],
    "kinds never asked": lambda r: r["role"] == "held_out" and not r["asked_in_training"],
}
ORDER = (
    "direct",
    "direct-unlikelihood",
    "direct-choice",
    "channel",
    "flipped-without-unlikelihood",
    "flipped",
    "flipped-sink",
    "flipped-choice",
    "flipped-sink-choice",
    "joint",
)
# The direction that an arm of several is judged by: the product of both.
JUDGED_BY = {"joint": "product"}

# Row numbers drawn with replacement, shape (resamples, rows), by set.
Draws = Mapping[str, NDArray[np.int64]]


def read_scores(path: Path) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Arm -> seed -> records of the direction it is judged by; the last line of an arm and a seed counts."""
    arms: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(dict)
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        judged = JUDGED_BY.get(entry["arm"])
        records = [r for r in entry["scores"] if judged is None or r["direction"] == judged]
        arms[entry["arm"]][entry["seed"]] = records
    return {name: arms[name] for name in ORDER if name in arms}


def statistic(record: Mapping[str, Any], rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Macro-F1 and accuracy of each resample.

    Args:
        rows: row numbers, shape (resamples, rows).
    """
    k = record["classes"]
    gold, chosen = np.array(record["gold"])[rows], np.array(record["chosen"])[rows]
    offset = np.arange(len(rows))[:, None] * (k * k)
    cells = np.bincount((offset + gold * k + chosen).ravel(), minlength=len(rows) * k * k).reshape(-1, k, k)
    right = np.diagonal(cells, axis1=1, axis2=2)
    both = cells.sum(1) + cells.sum(2)
    # A class that is neither there nor chosen has no part in the mean.
    f1 = np.where(both > 0, 2 * right / np.maximum(both, 1), np.nan)
    return np.nanmean(f1, 1), right.sum(1) / cells.sum((1, 2))


def group_values(
    records: Sequence[Mapping[str, Any]], belongs: Callable[[Mapping[str, Any]], bool], draws: Draws
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over the group's sets, a resample each; the first is of the rows as they are."""
    found = [statistic(r, draws[r["set"]]) for r in records if belongs(r)]
    return np.mean([f for f, _ in found], 0), np.mean([a for _, a in found], 0)


def summarize(arms: Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]]) -> dict[str, Any]:
    """Means with intervals by arm and group, and paired differences from `direct`."""
    random = np.random.default_rng(0)
    sizes = {r["set"]: len(r["gold"]) for seeds in arms.values() for records in seeds.values() for r in records}
    draws = {
        name: np.concatenate([np.arange(n)[None], random.integers(0, n, (RESAMPLES, n))]) for name, n in sizes.items()
    }
    table: dict[str, Any] = {}
    resampled: dict[tuple[str, str], NDArray[np.float64]] = {}
    for arm, seeds in arms.items():
        table[arm] = {"seeds": sorted(seeds), "groups": {}}
        chosen = random.integers(0, len(seeds), (RESAMPLES, len(seeds)))
        for group, belongs in GROUPS.items():
            values = [group_values(seeds[seed], belongs, draws) for seed in sorted(seeds)]
            entry: dict[str, Any] = {}
            for place, name in enumerate(("macro_f1", "accuracy")):
                each = np.array([v[place] for v in values])  # (seeds, 1 + resamples)
                drawn = each[chosen, np.arange(1, RESAMPLES + 1)[:, None]].mean(1)
                entry[name] = {
                    "mean": float(each[:, 0].mean()),
                    "interval": [float(x) for x in np.percentile(drawn, (2.5, 97.5))],
                    "seeds": [float(x) for x in each[:, 0]],
                }
                if name == "macro_f1":
                    resampled[arm, group] = np.concatenate([[each[:, 0].mean()], drawn])
            table[arm]["groups"][group] = entry
    differences = {}
    for arm in arms:
        if arm == "direct" or "direct" not in arms:
            continue
        differences[arm] = {g: _difference(resampled[arm, g] - resampled["direct", g]) for g in GROUPS}
        known, new = "trained sets, known words", "trained sets, new words"
        differences[arm]["loss from known to new words, trained sets"] = _difference(
            (resampled[arm, known] - resampled[arm, new]) - (resampled["direct", known] - resampled["direct", new])
        )
    return {"arms": table, "differences_from_direct": differences}


def _difference(values: NDArray[np.float64]) -> dict[str, Any]:
    return {"difference": float(values[0]), "interval": [float(x) for x in np.percentile(values[1:], (2.5, 97.5))]}


def by_set(arms: Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]]) -> list[dict[str, Any]]:
    """Macro-F1 of every set and wording, the mean over seeds, by arm."""
    rows: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for arm, seeds in arms.items():
        for records in seeds.values():
            for r in records:
                f1, _ = statistic(r, np.arange(len(r["gold"]))[None])
                rows.setdefault((r["role"], r["set"], r["wording"]), {}).setdefault(arm, []).append(float(f1[0]))
    return [
        {"role": role, "set": name, "wording": wording, "macro_f1": {a: float(np.mean(v)) for a, v in row.items()}}
        for (role, name, wording), row in rows.items()
    ]


def markdown(summary: Mapping[str, Any], sets: Sequence[Mapping[str, Any]]) -> str:
    """The tables as a page's middle part."""
    arms = summary["arms"]
    lines = ["| objective | seeds | " + " | ".join(GROUPS) + " |", "|---|---:|" + "---|" * len(GROUPS)]
    for arm, entry in arms.items():
        cells = []
        for group in GROUPS:
            f1, accuracy = entry["groups"][group]["macro_f1"], entry["groups"][group]["accuracy"]
            low, high = f1["interval"]
            cells.append(f"{f1['mean']:.3f} ({low:.3f} to {high:.3f}); {accuracy['mean']:.3f}")
        lines.append(f"| {arm} | {len(entry['seeds'])} | " + " | ".join(cells) + " |")
    lines += ["", "Points of macro-F1 above `direct`, paired:", ""]
    names = [*GROUPS, "loss from known to new words, trained sets"]
    lines += ["| objective | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for arm, found in summary["differences_from_direct"].items():
        cells = []
        for n in names:
            low, high = (100 * bound for bound in found[n]["interval"])
            cells.append(f"{100 * found[n]['difference']:+.1f} ({low:+.1f} to {high:+.1f})")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    lines += ["", "Macro-F1 by set, mean over seeds:", ""]
    lines += ["| set | words | " + " | ".join(arms) + " |", "|---|---|" + "---:|" * len(arms)]
    for row in sets:
        cells = [f"{row['macro_f1'][a]:.2f}" if a in row["macro_f1"] else "" for a in arms]
        name = row["set"] if row["role"] == "trained" else f"{row['set']} (held out)"
        lines.append(f"| {name} | {row['wording']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """One panel a group: a dot and an interval an arm, a small mark a seed."""
    from matplotlib.figure import Figure

    arms = list(summary["arms"])
    figure = Figure(figsize=(3.0 * len(GROUPS) + 2.2, 0.42 * len(arms) + 1.5), layout="constrained")
    panels = figure.subplots(1, len(GROUPS), sharey=True, sharex=True)
    for panel, group in zip(panels, GROUPS, strict=True):
        for place, arm in enumerate(arms):
            f1 = summary["arms"][arm]["groups"][group]["macro_f1"]
            colour = "#0072B2" if arm.startswith("flipped") else "#D55E00" if arm.startswith("direct") else "#222222"
            panel.plot(f1["interval"], [place, place], color=colour, linewidth=2)
            panel.plot(f1["mean"], place, "o", color=colour)
            if len(f1["seeds"]) > 1:
                panel.plot(f1["seeds"], [place] * len(f1["seeds"]), "|", color=colour, markersize=9, alpha=0.6)
        panel.set_title(group, fontsize=10)
        panel.grid(axis="x", color="#e4e4e4")
        panel.set_axisbelow(True)
        panel.set_xlabel("macro-F1")
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if not options.scores.is_file():
        parser.error(f"{options.scores} is not there; run.py makes it")
    arms = read_scores(options.scores)
    summary, sets = summarize(arms), by_set(arms)
    write_json(options.output / "replication.json", {**summary, "sets": sets})
    write_text(options.output / "replication.md", _HEAD + markdown(summary, sets))
    draw(summary, options.output / "replication.png")
    print(markdown(summary, sets))


if __name__ == "__main__":
    main()
