"""How fast log-likelihoods are scored: Obverse against lm-evaluation-harness and the usual loops, on the same requests.

    python benchmarks/scoring_speed/run.py --output docs/results [--case NAME ..] [--size 50m 250m]

Writes scoring_speed.md, scoring_speed.json and scoring_speed.png, all of them or none. Networks have seeded weights.
Every way answers the same requests on the same network; where their log-likelihoods differ by more than is allowed, or
the time of a slow way is not linear in its instances, nothing is written and the exit code is 1. It is 2 where the
command or the output is not as it must be. What has been measured of a case is kept in the work folder, so a run that
was ended goes on where it stood. With `--case` the files tell of these cases alone.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import secrets
import signal
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The package is this folder. Torch is imported in the children alone: memory of the parent's would be in their peaks.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from obverse.errors import ObverseError
from obverse.recipes.output_files import refuse_unwritable, write_json, write_text
from scoring_speed.cases import CASES, FAMILIES, TOGETHER, Case
from scoring_speed.children import ChildFailed, Children
from scoring_speed.report import picture, table, unsound

PACKAGES = ("obverse", "torch", "transformers", "tokenizers", "lm-eval")
GROWTH = "growth"
GROWTH_SIZES, SMALL_GROWTH = (1_000, 10_000, 100_000, 1_000_000), (100, 1_000)
LARGEST = "250m"
SMALL_CASES = ("single", "direct")
SMALL_FEW, SMALL_MANY = 4, 8
ENDINGS = ("json", "png", "md")

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unit:
    """A case with one model."""

    case: str
    family: str
    size: str

    @property
    def name(self) -> str:
        """As it is called in files and messages."""
        return f"{self.case}-{self.family}-{self.size}"


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    given = asked(arguments)
    paths = {ending: given.output / f"scoring_speed.{ending}" for ending in ENDINGS}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children go as well
    try:
        for path in paths.values():
            refuse_unwritable(path)
        content = measured(given)
        text, image = table(content), picture(content)
        write_json(paths["json"], content)
        write_bytes(paths["png"], image)
        write_text(paths["md"], text)
    except (ObverseError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except ChildFailed as error:
        print(f"nothing is written: {error}", file=sys.stderr)
        return 1
    print(text)
    return 0


def asked(arguments: list[str] | None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [case.name for case in CASES] + [GROWTH]
    parser.add_argument("--output", type=Path, default=Path("docs/results"), help="folder of the three files")
    parser.add_argument("--case", nargs="+", choices=names, metavar="NAME", help=f"only: {', '.join(names)}")
    parser.add_argument("--size", nargs="+", choices=("50m", LARGEST), default=["50m"], help="of the models")
    parser.add_argument("--rounds", type=int, help="of timing, in each another order (3; with --small 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="bf16 on cuda, fp32 on cpu")
    parser.add_argument("--small", action="store_true", help="two cases with tiny models: does it all work?")
    parser.add_argument("--work", type=Path, default=Path("runs/scoring_speed"), help="where cases are kept")
    found = parser.parse_args(arguments)
    found.rounds = found.rounds or (1 if found.small else 3)
    if found.rounds < 1:
        parser.error("--rounds is from 1 up")
    return found


def measured(given: argparse.Namespace) -> Found:
    """All that is to be told, measured or kept from before.

    Raises:
        ChildFailed: a measurement failed or cannot be relied on.
    """
    children = Children()
    common = {"device": given.device, "rounds": given.rounds, "folder": str(given.work.resolve()), "small": given.small}
    store = Store(given.work, common | {"versions": versions(), "source": source_digest()})
    cases, growing = units(given)
    if given.case:
        cases, growing = ([unit for unit in some if unit.case in given.case] for some in (cases, growing))
    wanted = [unit for unit in cases + growing if store.get(unit) is None]
    print(f"{len(wanted)} of {len(cases) + len(growing)} to measure", flush=True)
    if wanted:
        models = sorted({(unit.family, unit.size) for unit in wanted})
        seconds = children.run("prepare", common | {"models": models})["seconds"]
        print(f"tokenizers: {seconds:.0f} s", flush=True)
    for unit in wanted:
        settings = common | {"family": unit.family, "size": unit.size}
        began = time.perf_counter()
        if unit.case == GROWTH:
            sizes = SMALL_GROWTH if given.small else GROWTH_SIZES
            found = children.run("growth", settings | {"case": CASES[0].name, "sizes": sizes})
        else:
            found = one_case(children, settings, unit)
        store.put(unit, found)
        print(f"{unit.name}: {time.perf_counter() - began:.0f} s{brief(found)}", flush=True)
    return {
        "machine": machine(),
        "given": {
            "device": given.device,
            "rounds": given.rounds,
            "small": given.small,
            "size": given.size,
            "case": given.case,
        },
        "units": [store.get(unit) for unit in cases],
        "growth": [store.get(unit) for unit in growing],
    }


def units(given: argparse.Namespace) -> tuple[list[Unit], list[Unit]]:
    """The cases with their models, and the models whose time is looked at as requests grow more."""
    sizes = ["tiny"] if given.small else given.size
    cases = [
        Unit(case.name, family, size)
        for case in CASES
        if not given.small or case.name in SMALL_CASES
        for size in sizes
        if size in case.sizes
        for family in (case.families or FAMILIES[case.kind])[: 1 if given.small or size == LARGEST else None]
    ]
    return cases, [Unit(GROWTH, family, "stub") for family in ("gpt2", "t5")]


def one_case(children: Children, settings: Found, unit: Unit) -> Found:
    """Times of a case, and memory and positions of each of its ways.

    Raises:
        ChildFailed: ways do not agree, or the time of one is not linear.
    """
    case: Case = next(case for case in CASES if case.name == unit.case)
    few, many = (SMALL_FEW, SMALL_MANY) if settings["small"] else (case.few, case.instances)
    settings = settings | {"case": case.name, "few": few, "many": many}
    found = children.run("time_case", settings)
    # Networks of a few milliseconds have no time that could be linear in anything.
    if faults := unsound(found, timed=not settings["small"]):
        raise ChildFailed("; ".join([unit.name, *faults]))
    found["memory"] = {
        way: children.run("memory_case", settings | {"way": way, "batch": batch})
        for way, batch in found["batches"].items()
    }
    return found


def brief(found: Found) -> str:
    """A few words on a case for those who wait."""
    if "seconds" not in found:
        return ""
    own = statistics.median(found["seconds"][TOGETHER]["many"]) / found["many"]
    ratios = {
        way: statistics.median(parts["few"]) / found["few"] / own
        for way, parts in found["seconds"].items()
        if way != TOGETHER
    }
    return "; obverse is faster than " + ", ".join(f"{way} {ratio:.1f} x" for way, ratio in ratios.items())


class Store:
    """What was found of each unit, in a file of its own that counts only for the same settings and versions."""

    def __init__(self, folder: Path, settings: Found) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._settings = json.loads(json.dumps(settings))

    def get(self, unit: Unit) -> Found | None:
        try:
            kept = json.loads(self._path(unit).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(kept, dict) or kept.get("settings") != self._settings:
            return None
        found: Found = kept["found"]
        return found

    def put(self, unit: Unit, found: Found) -> None:
        write_json(self._path(unit), {"settings": self._settings, "found": found})

    def _path(self, unit: Unit) -> Path:
        return self._folder / f"{unit.name}.json"


def machine() -> Found:
    """What it ran on."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.exists() else None
    return {
        "processor": named[1] if named else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions(),
    }


def versions() -> dict[str, str | None]:
    """Of the packages that figures depend on; None where one is absent."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def source_digest() -> str:
    """A hash of the code that is measured and of the code that measures it."""
    import obverse

    digest = hashlib.sha256()
    folders = [Path(obverse.__file__).parent / "models", Path(__file__).parent]
    for path in sorted(path for folder in folders for path in folder.glob("*.py") if path.name != "report.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def write_bytes(path: Path, content: bytes) -> None:
    """A file, in place of the one that may be there."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    sys.exit(main())
