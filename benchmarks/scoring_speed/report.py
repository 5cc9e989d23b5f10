"""What was found, as tables and a picture.

    python benchmarks/scoring_speed/report.py docs/results/scoring_speed.json

writes the tables and the picture anew beside the file.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scoring_speed.cases import CASES, HARNESS, ONE_BY_ONE, PADDED, SORTED, TOGETHER, WAYS, Case

ALLOWED_NATS = 1e-3
"""Of a request, in fp32."""
ALLOWED_NATS_A_TOKEN = 0.1
"""In bf16, whose numbers have 8 bits."""
ALLOWED_BEND = 0.25
MIB = 1024 * 1024
_COLOURS = {HARNESS: "#b3446c", PADDED: "#8a8a8a", SORTED: "#5b8fb0", ONE_BY_ONE: "#d9a441"}
_MODELS = {"gpt2": "GPT-2", "llama": "Llama", "t5": "T5"}

Found = dict[str, Any]


def unsound(found: Found, *, timed: bool = True) -> list[str]:
    """Why a case's figures cannot be compared; empty where they can.

    Args:
        timed: whether the time of the slow ways must be linear in the work.
    """
    faults = []
    for way, gap in found["differences"].items():
        name, allowed = (
            ("nats", ALLOWED_NATS) if found["number_type"] == "float32" else ("nats_a_token", ALLOWED_NATS_A_TOKEN)
        )
        if not gap[name] <= allowed:
            faults.append(
                f"{way} and {TOGETHER} differ by {gap[name]:.2e} {name.replace('_', ' ')}; {allowed:g} is allowed"
            )
    if timed:
        for way in found["seconds"]:
            bent = bend(found, way)
            if not 1 / (1 + ALLOWED_BEND) <= bent <= 1 + ALLOWED_BEND:
                faults.append(
                    f"{way}: with {found['few']} instances a token takes {bent:.2f} times what it takes with "
                    f"{found['few'] // 2}, so more instances cannot be judged by few; measure again on a quiet machine"
                )
    return faults


def bend(found: Found, way: str) -> float:
    """Time a token of a slow way on all of its instances, as a multiple of that on half of them; 1 where linear."""
    if way == TOGETHER:
        return 1.0  # nothing is concluded from few to many here
    seconds, tokens = found["seconds"][way], found["tokens"]
    few, half = (statistics.median(seconds[part]) / tokens[part] for part in ("few", "half"))
    return few / half


def ratios(found: Found, way: str) -> list[float]:
    """Of each round: how many times longer an instance takes that way than in one call of Obverse over many."""
    slow, own = found["seconds"][way]["few"], found["seconds"][TOGETHER]["many"]
    return [a / found["few"] / (b / found["many"]) for a, b in zip(slow, own, strict=True)]


def verdict(case: Case, found: Found) -> str:
    """Whether the target is met."""
    if case.target is None:
        return "none set"
    aim = f"{case.target:g} x {case.against}"
    if found["size"] == "tiny":
        return f"{aim}: not judged with a tiny model"
    if case.against not in found["seconds"]:
        return f"{aim}: not judged, {case.against} is missing"
    got = statistics.median(ratios(found, case.against))
    return f"{aim}: met" if got >= case.target else f"**{aim}: MISSED**"


def share(found: Found, seconds: float | None = None) -> tuple[float, float]:
    """Parts of the matrix rate that are reached: of the rate at the model's own shapes, and at large squares.

    Args:
        seconds: that Obverse took for the many; None for the median of the rounds.
    """
    if seconds is None:
        seconds = statistics.median(found["seconds"][TOGETHER]["many"])
    rates = {(n, m): rate for n, m, rate in found["rates"]}
    matrices = found["work"]["matrices"]
    products = sum(flop for _, _, flop in matrices)
    own = products / sum(flop / rates[n, m] for n, m, flop in matrices)
    reached = (products + found["work"]["attention"]) / seconds
    return reached / own, reached / found["cube"]["rate"]


def table(content: Found) -> str:
    """The tables in Markdown, and what must be known to read them."""
    of, given, every = content["machine"], content["given"], content["units"]
    first = every[0]
    versions = ", ".join(f"{name} {version}" for name, version in of["versions"].items() if version)
    missing = "" if HARNESS in first["seconds"] else (
        f"\n**{HARNESS} is missing**: it is not installed here (`pip install 'obverse[bench]'`), so its rows are "
        "missing.\n"
    )  # fmt: skip
    options = "".join(
        f" --{key} {' '.join(value) if isinstance(value, list) else value}"
        for key, value, usual in (
            ("case", given.get("case"), None),
            ("size", given["size"], ["50m"]),
            ("rounds", given["rounds"], 1 if given["small"] else 3),
            ("device", given["device"], "cpu"),
        )
        if value != usual
    ) + (" --small" if given["small"] else "")
    worst = max(gap["nats"] for found in every for gap in found["differences"].values())
    where = f"{of['processor']}, {of['cores']} cores" + (f", {first['gpu']}" if first["gpu"] else "")
    lines = [
        "# Speed of scoring",
        "",
        f"{where}; threads: {first['threads']}; {first['number_type']}. Python {of['python']}, {versions}.",
        f"Command: `python benchmarks/scoring_speed/run.py --output docs/results{options}`. Rounds: {given['rounds']}.",
        missing,
        "Every way answers the same requests (a text that is given, a text that is said) on the same network with "
        "seeded weights, and tokenises them itself.",
        f"The log-likelihoods of all ways differ by at most {worst:.1e} nats ({ALLOWED_NATS:g} is allowed in fp32).",
        "",
        *_summary(every),
        *_explained(every),
    ]
    for case in CASES:
        some = [found for found in every if found["case"] == case.name]
        if some:
            lines += ["", f"## {_heading(case)}", "", *_one_case(case, some)]
    if content["growth"]:
        lines += ["", "## Time as requests grow more", "", *_growth(content["growth"])]
    lines += ["", "## Matrix rates", "", *_rates(every)]
    text = "\n".join(lines) + "\n"
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def picture(content: Found) -> bytes:
    """A bar chart of the ratios as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    every = content["units"]
    cases = {case.name: case for case in CASES}
    slow = [way for way in WAYS if way != TOGETHER and any(way in found["seconds"] for found in every)]
    thick = 0.8 / len(slow)
    figure, axes = pyplot.subplots(figsize=(9, 1.8 + 0.85 * len(every)), layout="constrained")
    for place, found in enumerate(every):
        case = cases[found["case"]]
        for number, way in enumerate(slow):
            if way not in found["seconds"]:
                continue
            y = place + (number - (len(slow) - 1) / 2) * thick
            value = statistics.median(ratios(found, way))
            label = way if not place else None
            axes.barh(y, value - 1, thick * 0.9, left=1, color=_COLOURS[way], label=label)
            axes.annotate(
                f"{value:.1f}", (max(value, 1), y), (3, 0), textcoords="offset points", va="center", fontsize=7
            )
            if case.target is not None and case.against == way:
                axes.plot([case.target] * 2, [y - thick / 2, y + thick / 2], color="black", linewidth=2.5, zorder=3)
    axes.plot([], [], color="black", linewidth=2.5, label="target")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} x"))
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks(range(len(every)), [f"{found['case']}\n{_model(found)}" for found in every], fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="x", which="both", alpha=0.25)
    axes.set_axisbelow(True)
    axes.margins(x=0.08)
    axes.set_xlabel("time an instance takes, as a multiple of one call of Obverse over all")
    axes.set_title("How many times faster Obverse scores", loc="left")
    figure.legend(loc="outside lower center", ncols=len(slow) + 1, frameon=False)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=130)
    pyplot.close(figure)
    return written.getvalue()


def _summary(every: list[Found]) -> list[str]:
    cases = {case.name: case for case in CASES}
    lines = [
        "| case | model | ms an instance | faster than lm-eval | than padded | than sorted | than one by one | "
        "target | of the matrix rate |",
        "|---|---|---:|---:|---:|---:|---:|---|---:|",
    ]
    for found in every:
        case = cases[found["case"]]
        own = statistics.median(found["seconds"][TOGETHER]["many"]) / found["many"]
        target = verdict(case, found)
        cells = [case.name, _model(found), f"{1e3 * own:,.1f}"]
        for way in (HARNESS, PADDED, SORTED, ONE_BY_ONE):
            known = way in found["seconds"]
            cells.append(f"{statistics.median(ratios(found, way)):.1f} x" if known else "missing")
        lines.append(f"| {' | '.join([*cells, target, f'{100 * share(found)[0]:.0f} %'])} |")
    return lines


def _explained(every: list[Found]) -> list[str]:
    width = every[0]["cube"]["width"]
    return [
        "",
        "![How many times faster Obverse scores](scoring_speed.png)",
        "",
        "Ways:",
        "",
        "* `lm-eval`: `HFLM.loglikelihood` of lm-evaluation-harness; the best of batch sizes 1, 4, 8, 16 and `auto`.",
        "* `padded`: the usual loop. Batches of rows in their order through the whole network, a log-softmax over all",
        "  logits. Every row is padded to the longest of the run; with an encoder-decoder to 384 tokens on the longer",
        "  side and 64 on the shorter. The best of batch sizes 1, 4, 8 and 16.",
        "* `sorted`: the same, sorted by length and padded to the longest of each batch.",
        "* `one by one`: Obverse in naive mode, one query a call and nothing shared.",
        "* `obverse`: one call of `log_likelihoods` with all queries.",
        "",
        "Columns:",
        "",
        "* `faster`: seconds an instance that way, over those of one call of Obverse. The slow ways answer few",
        "  instances, Obverse answers many. `at few`: both answer the same few. All are medians of the rounds, in",
        "  brackets the lowest and the highest.",
        "* `bend`: whether few instances tell of many. Seconds a token on all of the few over those on half of them;",
        f"  at most {100 * ALLOWED_BEND:.0f} % off 1 is allowed.",
        "* `positions`: tokens that go through the network for an instance, padding included. `head`: those where",
        "  logits over the vocabulary are made. `least`: where nothing is computed twice.",
        "* `MiB`: the peak of a process of its own, above what it held with the model loaded; Obverse's with many.",
        "* `nats`: the largest difference of a log-likelihood to Obverse's in one call over many.",
        "* `of the matrix rate`: FLOP of the least work / seconds / rate, where FLOP are 2 n m for every position",
        "  and linear layer of n inputs and m outputs that needs it (with a causal model 2 x parameters outside",
        "  embeddings x unique tokens), 4 x heads x head width x layers for every pair of a position and a key that it",
        "  looks at, and 2 x width x vocabulary for every position at the head. The rate is the one measured for",
        "  products at the model's own shapes, weighted by their work; a second share, in the notes, takes the rate of",
        f"  squares of {width:,}.",
        "* `planning`: the part of Obverse's time spent on tokenising and on choosing what is computed when.",
    ]


def _one_case(case: Case, some: list[Found]) -> list[str]:
    lines = [
        "| model | way | batch | ms an instance | Obverse is faster | at few | positions | head | MiB | nats | bend |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    notes = []
    for found in some:
        own_few = found["seconds"][TOGETHER]["few"]
        for way in WAYS:
            if way not in found["seconds"]:
                lines.append(f"| {_model(found)} | {way} | | missing | | | | | | | |")
                continue
            part, count = ("many", found["many"]) if way == TOGETHER else ("few", found["few"])
            taken, memory = found["seconds"][way], found["memory"][way]
            at_few = [a / b for a, b in zip(taken["few"], own_few, strict=True)]
            cells = [
                _model(found),
                way,
                str(found["batches"].get(way) if found["tuning"][way] else ""),
                _spread([1e3 * seconds / count for seconds in taken[part]], ",.1f"),
                "" if way == TOGETHER else f"{_spread(ratios(found, way))} x",
                "" if way == TOGETHER else f"{statistics.median(at_few):.1f} x",
                f"{memory['positions'] / memory['instances']:,.0f}",
                f"{memory['head'] / memory['instances']:,.0f}",
                f"{memory['bytes'] / MIB:,.0f}",
                f"{found['differences'][way]['nats']:.0e}",
                "" if way == TOGETHER else f"{bend(found, way):.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        work, many = found["work"], found["many"]
        lines.append(
            f"| {_model(found)} | least | | | | | {work['positions'] / many:,.0f} | {work['head'] / many:,.0f} | | | |"
        )
        own, cube = share(found)
        plan = found["account"]["planning"]
        notes.append(
            f"* {_model(found)}: {found['parameters'] / 1e6:,.1f}M parameters, vocabulary {found['vocabulary']:,}; "
            f"{found['few']} and {many} instances, {found['requests_an_instance']} requests and "
            f"{found['tokens']['many'] / many:,.0f} tokens asked of each. "
            f"Obverse reaches {100 * own:.0f} % of the matrix rate at its shapes, {100 * cube:.0f} % of that of "
            f"squares; planning is {100 * plan:.1f} % of its time. "
            f"{_skipped(found)}Target: {verdict(case, found)}."
        )
    return [*lines, "", *notes]


def _skipped(found: Found) -> str:
    skipped = [
        f"{way} {batch}" for way, tried in found["tuning"].items() for batch, taken in tried.items() if taken is None
    ]
    return f"Batches not tried, for their logits would not fit the memory: {', '.join(skipped)}. " if skipped else ""


def _growth(growth: list[Found]) -> list[str]:
    lines = [
        "One call of `log_likelihoods` on a network of one layer, 8 wide, which costs little beside the planning: four",
        "options after each prompt of four words.",
        "",
        "| model | queries | seconds | µs a query | planning |",
        "|---|---:|---:|---:|---:|",
    ]
    for found in growth:
        for row in found["rows"]:
            each = 1e6 * row["seconds"] / row["queries"]
            name = _MODELS[found["family"]]
            lines.append(
                f"| {name} | {row['queries']:,} | {row['seconds']:,.2f} | {each:,.1f} | {100 * row['planning']:.0f} % |"
            )
    return lines


def _rates(every: list[Found]) -> list[str]:
    lines = ["| model | matrix | GFLOP/s | GFLOP an instance |", "|---|---|---:|---:|"]
    known: set[str] = set()
    for found in every:
        # Every case has measured them anew; those of a model's first case stand for all.
        if _model(found) in known:
            continue
        known.add(_model(found))
        rates = {(n, m): rate for n, m, rate in found["rates"]}
        for n, m, flop in found["work"]["matrices"]:
            each = flop / found["many"] / 1e9
            lines.append(f"| {_model(found)} | {n:,} x {m:,} | {rates[n, m] / 1e9:,.0f} | {each:,.2f} |")
        lines.append(
            f"| {_model(found)} | square of {found['cube']['width']:,} | {found['cube']['rate'] / 1e9:,.0f} | |"
        )
    return [*lines, "", "Work is that of the first case of each model."]


def _heading(case: Case) -> str:
    return f"{case.name}: {case.kind}, {case.title}"


def _model(found: Found) -> str:
    return f"{_MODELS[found['family']]} {found['size']}"


def _spread(values: list[float], form: str = ".1f") -> str:
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _again(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    text, image = table(content), picture(content)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    path.with_suffix(".png").write_bytes(image)


if __name__ == "__main__":
    _again(Path(sys.argv[1]))
