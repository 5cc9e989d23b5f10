"""What obverse-mini is trained on: sources for training and for choosing, made from a recipe and two folders."""

from __future__ import annotations

import itertools
import json
import math
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obverse.catalog.index import Catalog
from obverse.catalog.promptsource import read_split, read_templates
from obverse.errors import DataError
from obverse.recipes.mixtures import Trained
from obverse.recipes.recipe import DataPart, Recipe
from obverse.seeds import stream
from obverse.tasks.examples import Example
from obverse.tasks.mixture import Draw, DrawSource, TaskSource
from obverse.tasks.task import ListedRows, Provenance, Rows, Task, TaskTemplate
from obverse.tasks.wordings import AskedSource, AskedText, Facet, WordedSource, read_facets

SINGLE_TEXT = ("glue/sst2", "rotten_tomatoes", "dbpedia_14")
"""Held-out sets of one text a row."""
_NEVER = 10**9


@dataclass(frozen=True, slots=True)
class Sources:
    """Training sources with their rates, and the held-out ones that choose checkpoints and weights."""

    training: tuple[Trained, ...]
    held_out: tuple[DrawSource, ...]


def read_own_texts(folder: Path) -> list[dict[str, Any]]:
    """The lines of every `*.jsonl` in `folder`, in order of file and line."""
    lines = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                entry = json.loads(line)
                lines.append({"id": f"{path.stem}/{number}", **entry})
            except json.JSONDecodeError as error:
                raise DataError(f"is not JSON: {error}", where=f"{path}, line {number}") from None
    if not lines:
        raise DataError("holds no texts", where=str(folder))
    return lines


def read_asked_texts(folder: Path) -> list[AskedText]:
    """The texts with questions of their own of every `*.jsonl` in `folder`, in order of file and line.

    A line holds `text` and `asks`, a list of lists: the question, the right option, the wrong ones. Or it is a contrast
    set, texts that differ in what is asked and in little else: `texts`, pairs of a text and the number of its right
    option, and `asks`, pairs of a question and its options. Texts of one line have ids with the same part before a dot.
    """
    texts: list[AskedText] = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            where = f"{path}, line {number}"
            try:
                read = _asked_texts(f"{path.stem}/{number}", json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise DataError(f"is not JSON with text or texts, and asks: {error}", where=where) from None
            asks = [options for text in read for _, options in text.asks]
            if not asks or any(len(set(options)) < max(2, len(options)) for options in asks):
                raise DataError("a question needs at least two options, all different", where=where)
            texts += read
    if not texts:
        raise DataError("holds no texts", where=str(folder))
    return texts


def _asked_texts(name: str, entry: Mapping[str, Any]) -> list[AskedText]:
    if "texts" not in entry:
        asks = tuple((str(question), tuple(map(str, options))) for question, *options in entry["asks"])
        return [AskedText(name, str(entry["text"]), asks)]
    out = []
    for place, (text, right) in enumerate(entry["texts"], 1):
        if right < 0:
            raise ValueError(f"option {right} is none")
        asks = tuple(
            (str(question), (str(options[right]), *(str(o) for i, o in enumerate(options) if i != right)))
            for question, options in entry["asks"]
        )
        out.append(AskedText(f"{name}.{place}", str(text), asks))
    return out


def _is_aside(texts: Sequence[AskedText], every: int) -> list[bool]:
    """Whether each text is kept aside, with those of its line.

    Told by what the line begins with, so that one more moves no other across.
    """
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(text.id.partition(".")[0], text.text)
    return [not zlib.crc32(first[text.id.partition(".")[0]].encode()) % every for text in texts]


def build_sources(recipe: Recipe, data: Path) -> Sources:
    """Sources of a recipe with [own] texts, and perhaps [[data]] beside them.

    Args:
        recipe: as `check_data` leaves it.
        data: where `p3/` and `promptsource/` lie.
    """
    assert recipe.own is not None and recipe.held_out is not None
    facets = read_facets(Path(recipe.own.facets))
    every_text = recipe.held_out.every_text or _NEVER
    training_facets, held_facets = {}, {}
    for name, facet in facets.items():
        training_facets[name], held_facets[name] = split_facet(facet, recipe.held_out.every_instruction or _NEVER)
    training: list[Trained] = []
    held_out: list[DrawSource] = []

    own = own_examples(read_own_texts(Path(recipe.own.texts)))
    weights = {name: math.sqrt(len(examples)) for name, examples in own.items()}
    for name, examples in own.items():
        kept = [e for i, e in enumerate(examples) if i % every_text]
        aside = [e for i, e in enumerate(examples) if not i % every_text]
        source = WordedSource(f"own/{name}", kept, training_facets[name])
        rate = recipe.own.rate * weights[name] / sum(weights.values())
        training.append(Trained(source, rate, source.name, "Apache-2.0", "this project's own texts"))
        held_out.append(
            WordedSource(
                f"own/{name}", aside, held_facets[name], most_options=8, list_options=0.0, values=source.values
            )
        )

    if recipe.own.asked:
        texts = read_asked_texts(Path(recipe.own.asked))
        aside_too = _is_aside(texts, every_text)
        asked = AskedSource("own/asked", [t for t, is_aside in zip(texts, aside_too, strict=True) if not is_aside])
        training.append(
            Trained(
                asked, recipe.own.asked_rate or 0.0, asked.name, "Apache-2.0", "this project's own texts and questions"
            )
        )
        kept_texts = [t for t, is_aside in zip(texts, aside_too, strict=True) if is_aside]
        held_out += [
            AskedSource(f"own/asked/{field}", list(some), list_options=0.0)
            for field, some in itertools.groupby(kept_texts, key=lambda t: t.id.partition("/")[0])
        ]

    catalog = Catalog(data)
    for entry in recipe.data:
        if entry.task is not None:
            training.append(task_source(entry.task, entry.rate, catalog))
            continue
        dataset = entry.dataset
        origin = catalog.open(dataset).provenance
        rows = list(read_split(data, dataset, "train"))
        for facet_name in entry.facets:
            kept = [e for e in (convert(row, entry, facet_name) for row in rows) if e is not None]
            worded = WordedSource(f"{dataset}/{facet_name}", kept, training_facets[facet_name])
            rate = entry.rate * (1 - entry.templates) / len(entry.facets)
            training.append(Trained(worded, rate, worded.name, origin.licence, origin.source))
        if entry.templates:
            templates = read_templates(data / "promptsource" / dataset / "templates.yaml")
            shortened = ListedRows(dataset, [cut(row, entry) for row in rows])
            under = templated(f"{dataset}/templates", shortened, templates)
            training.append(Trained(under, entry.rate * entry.templates, under.name, origin.licence, origin.source))
        if (data / "p3" / dataset / "validation.parquet").is_file():
            facet_name = entry.facets[0]
            rows = list(read_split(data, dataset, "validation"))
            # Files may be sorted by label, so the rows are drawn and not taken from the top.
            stream(0, "held out rows", dataset).shuffle(rows)
            aside = [e for e in (convert(row, entry, facet_name) for row in rows[:400]) if e is not None]
            held_out.append(
                WordedSource(
                    f"{dataset}/{facet_name}", aside, held_facets[facet_name], most_options=8, list_options=0.0
                )
            )
    return Sources(tuple(training), tuple(held_out))


def choosing_draws(sources: Sources, each: int, *, seed: int = 0) -> list[Draw]:
    """The same `each` draws, at every call, of the held-out sources of single texts.

    What people bring is single texts, so these choose checkpoints, weights and temperatures; pairs and questions are
    too hard to move them.
    """
    chosen = [source for source in sources.held_out if source.name.startswith(("own/", *SINGLE_TEXT))]
    return [source.draw(stream(seed, "held out", source.name, i)) for source in chosen for i in range(each)]


def templated(name: str, rows: Rows, templates: Sequence[TaskTemplate]) -> TaskSource:
    """A data set under its promptsource templates."""
    return TaskSource(Task(name, {"train": lambda: rows}, tuple(templates), Provenance(rows.name)))


def task_source(name: str, rate: float, catalog: Catalog) -> Trained:
    """A task of the catalogue, or a user's own file, under its own templates.

    Raises:
        ObverseError: there is no such task, or nothing of it can be trained on.
    """
    task = catalog.open(name)
    # A task file with a single table has one split, which is then meant.
    split = "train" if "train" in task.splits or len(task.splits) > 1 else next(iter(task.splits))
    return Trained(TaskSource(task, split), rate, task.name, task.provenance.licence, task.provenance.source)


def split_facet(facet: Facet, every: int) -> tuple[Facet, Facet]:
    """The facet for training and the one kept aside: no instruction and no wording in common."""
    asked = range(len(facet.instructions))
    aside = [i for i in asked if i % every == every - 1]
    words = facet.wordings
    keep = words - (2 if words >= 8 else 1)
    return (
        facet.only([i for i in asked if i not in aside], range(keep)),
        facet.only(aside, range(keep, words)),
    )


def own_examples(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[Example]]:
    """One list of examples a facet."""
    by_facet: dict[str, list[Example]] = defaultdict(list)
    intents: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        if "intent" in line["facets"]:
            intents[line["facets"].get("domain", "")].add(line["facets"]["intent"])
    everything = sorted(set().union(*intents.values()))
    for line in lines:
        for facet, value in line["facets"].items():
            fields = {"text": line["text"]}
            options = None
            if facet == "stance":
                fields["target"] = line["target"]
            if facet == "intent":
                # Neighbours from the same domain are what is hard; a few strangers keep the easy cases easy.
                near = sorted(intents[line["facets"].get("domain", "")])
                far = stream(0, "intents", line["id"]).sample(everything, min(6, len(everything)))
                options = tuple(dict.fromkeys([value, *near, *far]))
            by_facet[facet].append(Example(line["id"], fields, value, options))
    return dict(by_facet)


def cut(row: Example, entry: DataPart) -> Example:
    """The row with its texts at most `most_characters` long."""
    most = entry.most_characters
    if not most:
        return row
    fields = {
        k: v[:most].rsplit(" ", 1)[0] if isinstance(v, str) and len(v) > most else v for k, v in row.fields.items()
    }
    return Example(row.id, fields, row.label, row.options, row.where)


def convert(row: Example, entry: DataPart, facet: str) -> Example | None:
    """A data set's row as an example of a facet; None where the row has no right answer."""
    row = cut(row, entry)
    fields = {name: str(row.fields[column]) for name, column in entry.fields.items()}
    raw = row.fields[entry.label]
    if entry.choices is not None:
        choices: Any = row.fields[entry.choices]
        texts = [str(t).strip() for t in choices["text"]]
        if raw not in choices["label"] or len(set(texts)) < len(texts):
            return None
        return Example(row.id, fields, texts[choices["label"].index(raw)], tuple(texts), row.where)
    if entry.options:
        texts = [str(row.fields[column]).strip() for column in entry.options]
        place = int(str(raw)) - entry.first_label
        if not 0 <= place < len(texts) or len(set(texts)) < len(texts):
            return None
        return Example(row.id, fields, texts[place], tuple(texts), row.where)
    values = entry.values[facet]
    place = int(str(raw))
    return Example(row.id, fields, values[place], None, row.where) if 0 <= place < len(values) else None
