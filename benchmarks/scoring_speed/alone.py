"""The ways of the scoring benchmark each in a process of its own, as their users run them.

    python benchmarks/scoring_speed/alone.py --output docs/results [--case NAME ..]

In run.py all ways of a case share a process, and with it Obverse's setting of the memory allocator, which makes the
others faster too. Here a process knows one way. Batch sizes are the best ones of the run before, from
scoring_speed.json in the output folder. Obverse alone is timed with the largest models as well, for the share of the
matrix rate. Writes scoring_speed_alone.md and .json. The exit code is 2 where something is missing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from obverse.errors import ObverseError
from obverse.recipes.output_files import refuse_unwritable, write_json, write_text
from scoring_speed.cases import CASES, HARNESS, PADDED, SORTED, TOGETHER
from scoring_speed.children import ChildFailed, Children
from scoring_speed.report import share

Found = dict[str, Any]

LARGEST: list[Found] = [
    {"case": case, "family": family, "size": "250m", "many": 100, "batches": {TOGETHER: 1}}
    for case, family in (("single", "gpt2"), ("direct", "t5"))
]
"""What Obverse alone is asked: hours of the other ways would say nothing new."""

_HEAD = """# Scoring, each way in a process of its own

Seconds an instance (median of {rounds} rounds, in turns) and how many times faster Obverse is. In
[the whole benchmark](scoring_speed.md) all ways share a process, and with it Obverse's setting of the memory allocator,
from which the others gain as well. Same networks, requests and batch sizes as there.

`python benchmarks/scoring_speed/alone.py --output docs/results --case {cases}`

`of the matrix rate`: as in the whole benchmark, at the model's own shapes; behind it, of squares of 2,048. Rates are
measured once, after the answers; more than 100 % says that the machine was slower then.

| case | model | Obverse | {ways} | target | of the matrix rate | planning |
|---|---|---:|{lines}---|---:|---:|
"""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=Path("docs/results"), help="folder that holds scoring_speed.json"
    )
    parser.add_argument("--case", nargs="+", choices=[case.name for case in CASES], default=["single"], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/scoring_speed"), help="where tokenizers are kept")
    given = parser.parse_args()
    try:
        for ending in ("md", "json"):
            refuse_unwritable(given.output / f"scoring_speed_alone.{ending}")
        known = read_units(given.output / "scoring_speed.json")
        given.work.mkdir(parents=True, exist_ok=True)
        units = [unit for unit in known if unit["case"] in given.case]
        if not units:
            raise ObverseError("none of these cases was measured", where=str(given.output / "scoring_speed.json"))
        children = Children()
        found = [timed(unit, children, given.rounds, given.work) for unit in units + LARGEST]
        write_json(given.output / "scoring_speed_alone.json", {"rounds": given.rounds, "units": found})
        text = table(found, given.rounds, given.case)
        write_text(given.output / "scoring_speed_alone.md", text)
    except (ObverseError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except ChildFailed as error:
        print(f"nothing is written: {error}", file=sys.stderr)
        return 1
    print(text)
    return 0


def read_units(path: Path) -> list[Found]:
    """What run.py has measured.

    Raises:
        ObverseError: there is no such file, or it is of another kind.
    """
    try:
        units: list[Found] = json.loads(path.read_text(encoding="utf-8"))["units"]
        return [{key: unit[key] for key in ("case", "family", "size", "few", "many", "batches")} for unit in units]
    except FileNotFoundError:
        raise ObverseError("is not there", where=str(path), mend="Run benchmarks/scoring_speed/run.py first.") from None
    except (ValueError, KeyError, TypeError):
        raise ObverseError("is not what run.py writes", where=str(path), mend="Run it again.") from None


def timed(unit: Found, children: Children, rounds: int, work: Path) -> Found:
    """Seconds an instance of every way, round by round."""
    ways = [way for way in (HARNESS, PADDED, SORTED, TOGETHER) if way in unit["batches"]]
    settings = {**unit, "device": "cpu", "small": False, "folder": str(work.resolve())}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    own: Found = {}
    for number in range(rounds):
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            part = unit["many"] if way == TOGETHER else unit["few"]
            asked = settings | {"way": way, "batch": unit["batches"][way], "instances": part}
            answer = children.run("time_alone", asked)
            seconds[way].append(answer.pop("seconds") / part)
            own = answer or own
    print(f"{unit['case']}, {unit['family']}, {unit['size']}: {ratios_in_words(seconds)}", flush=True)
    return unit | own | {"seconds": seconds}


def ratios_in_words(seconds: dict[str, list[float]]) -> str:
    own = statistics.median(seconds[TOGETHER])
    if len(seconds) == 1:
        return f"{own:.3f} s an instance"
    return ", ".join(f"{way} {statistics.median(s) / own:.1f} x" for way, s in seconds.items() if way != TOGETHER)


def table(found: list[Found], rounds: int, cases: list[str]) -> str:
    """The page."""
    ways = [way for way in (HARNESS, PADDED, SORTED) if any(way in unit["seconds"] for unit in found)]
    lines = []
    for unit in found:
        case = next(case for case in CASES if case.name == unit["case"])
        own = statistics.median(unit["seconds"][TOGETHER])
        cells = []
        for way in ways:
            taken = unit["seconds"].get(way)
            cells.append(
                "" if taken is None else f"{statistics.median(taken):.3f}; {statistics.median(taken) / own:.1f} x"
            )
        target = "" if case.target is None else f"{case.target:g} x {case.against}"
        shapes, squares = share(unit, own * unit["many"])
        cells += [
            target if len(unit["seconds"]) > 1 else "",
            f"{100 * shapes:.0f} %; {100 * squares:.0f} %",
            f"{100 * unit['account']['planning']:.1f} %",
        ]
        lines.append(f"| {case.title} | {unit['family']}, {unit['size']} | {own:.3f} | {' | '.join(cells)} |")
    head = _HEAD.format(rounds=rounds, cases=" ".join(cases), ways=" | ".join(ways), lines="---:|" * len(ways))
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
