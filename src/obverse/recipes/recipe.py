"""Training recipes: what a TOML file may say, everything that may be wrong with it, and its exact copy.

A recipe is a file, or the name of one that comes with the package (`library_names`). Its keys:

==================================  ==================================================================================
key                                 meaning (what holds where the key is left out)
==================================  ==================================================================================
extends                             a recipe whose keys hold where this one is silent
name, source, description           for people (the file's name; blank; blank)
seed                                of everything that is drawn (0)
steps, examples_per_step            how long, and the draws of one step
token_budget                        most tokens of a micro-batch, padding included (16,384)
prior, prior_share                  obverse-mini-base: nats a unit of cosine (none); share of draws that see it (0.5)
earlier_data                        sets that the base has met before; for the record
[model] base                        a folder, a hub id, "obverse-mini-base" or, for similarity, "obverse-mini-encoder"
encoder                             obverse-mini-base: a folder with its sentence encoder (the pretrained one)
eos, slots                          end-of-sequence preset, marks of the instruction's places (the base's own)
dropout, precision                  (the base's own); "auto", "fp32" or "bf16" ("auto")
gradient_checkpointing, compile     less memory; a compiled body (false)
lora                                rank, alpha (2 x rank), dropout (0), targets (those usual for the architecture)
decoder_layers                      obverse-mini-base: the encoder layers that the decoder starts from ([1, 3, 5])
frozen_encoder_layers               obverse-mini-base: the lowest layers, which stay as they are (0)
sharded                             several processes: each holds a share of the weights, not a copy (false)
trained_share                       what is written: so much of the trained weights, the rest of the base's (1)
[lengths] given, said               most tokens of each side, special tokens included
truncation                          "fields" shortens the longest input, "reference" cuts from the right ("fields")
[optimizer] name                    "adamw" or "adafactor" ("adamw")
rate                                learning rate
rates                               leading parts of a parameter's name -> its rate; the longest that fits counts
weight_decay, clip                  (0); greatest norm of the gradient (not clipped; nor with 0)
warmup_steps, decay_steps           linear, at the beginning and to 0 at the end (0, 0: a constant rate)
scale_parameter                     adafactor: the rate is relative to a parameter's size (false)
[[objectives]] direction            "direct", "channel", "flipped", "symbol": direct over [mixture.symbols], or
                                    "similarity": sentence vectors of text and option, compared by `choice`
name, weight                        (the direction); factor on the whole (1)
likelihood, unlikelihood, sink,     weights of the terms (1, 0, 0, 0)
choice
negatives                           wrong options a draw (1 where a term needs them, else 0)
choice_scale, choice_mean           factor on the scores in `choice` (1); mean over tokens, not sum (false)
normalisation                       "example": mean over each example's tokens first; "token" ("example")
masked                              channel: instruction and input apart, with slots (false)
[mixture] suite or tasks            a suite's name or file; or task names, files of own tasks, or tables (below)
cap, temperature                    most examples a task counts for (the suite's, or 500,000); flattens rates (1)
cutting                             of promptsource templates: "segments" or "flipped-reference" ("segments")
symbols                             prompts of exemplars under symbols; a table (below)
[held_out] tasks                    as in [mixture]; what chooses the best checkpoint
rows, every, patience               rows a task (100); steps between two looks (250); looks without gain (no limit)
every_instruction, every_text       [own]: which instructions and texts are kept aside
[save] every, keep                  steps between two checkpoints (250); how many of them stay (2)
[own] rate, facets, texts           shared draws of one's own texts; their wordings (facets.toml); their folder (texts)
asked, asked_rate                   folder of texts that carry their own questions, and their draws (none)
[[data]] ...                        beside [own]: columns of a data set as facets; or `task` and `rate`
==================================  ==================================================================================

A task as a table has `task`, `split`, `rate`, `templates` ("usable" or names) and `wordings` (sets of the catalogue's
label wordings, besides the template's own words). Symbols have `per_class` ([2, 10] exemplars), `layouts` ("all" or
names), `instruction` (share of prompts that begin with one, 0), `words` (a file; the package wordfreq) and `templated`:
`suite` or `tasks` under their templates, mixed in with a `share` of all draws.

Paths are relative to the recipe's folder or, failing that, to the present one. Entries of a list are counted from 1.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from obverse.catalog.index import KINDS, Catalog
from obverse.catalog.own import read_own
from obverse.catalog.p3 import template_file
from obverse.catalog.plain import plain_names
from obverse.catalog.suites import USABLE, Suite, SuiteTask, present, read_suite, read_suite_file, suite_names
from obverse.catalog.wordings import wording_sets
from obverse.errors import DataError, ObverseError, RecipeError, nearest
from obverse.models.conventions import EOS_PRESETS
from obverse.recipes.recipe_layers import locate, read_layers, set_value
from obverse.recipes.recipe_table import Table, called, toml_key, toml_value, under
from obverse.tasks.directions import SLOTS
from obverse.tasks.exemplars import LAYOUTS
from obverse.tasks.promptsource import CUTTINGS

MINI_BASE = "obverse-mini-base"
"""The base that obverse-mini starts from: an encoder-decoder made of a pretrained sentence encoder."""
MINI_ENCODER = "obverse-mini-encoder"
"""That sentence encoder itself, to be trained on how alike texts and their labels are."""
DIRECTIONS = ("direct", "channel", "flipped", "symbol", "similarity")
OPTIMIZERS = ("adamw", "adafactor")
NORMALISATIONS = ("example", "token")
TRUNCATIONS = ("fields", "reference")
PRECISIONS = ("auto", "fp32", "bf16")

_ENCODER_LAYERS = 6  # of the sentence encoder behind obverse-mini
_CAP = 500_000
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class LoraPart:
    """Low-rank adapters; `targets` empty for those usual in the architecture."""

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelPart:
    """What is trained.

    Attributes:
        base: a folder (absolute), a hub id, `MINI_BASE` or `MINI_ENCODER`.
        eos, slots, dropout: None for the base's own.
        decoder_layers: of `MINI_BASE` alone; else ().
        frozen_encoder_layers: of `MINI_BASE` and `MINI_ENCODER`; else 0.
        sharded: whether several processes divide the weights among them; a single one holds them all.
        trained_share: the finished model is this much of the trained weights and, for the rest, the base's (WiSE-FT,
            arXiv 2109.01903), which holds up better on texts of kinds that training did not have.
    """

    base: str
    eos: str | None = None
    slots: str | None = None
    dropout: float | None = None
    precision: str = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False
    lora: LoraPart | None = None
    decoder_layers: tuple[int, ...] = ()
    frozen_encoder_layers: int = 0
    sharded: bool = False
    trained_share: float = 1.0


@dataclass(frozen=True, slots=True)
class LengthsPart:
    """Most tokens of each side, special tokens included."""

    given: int
    said: int
    truncation: str = "fields"


@dataclass(frozen=True, slots=True)
class OptimizerPart:
    """How weights move; `clip` None for gradients as they are, `rates` by leading parts of a parameter's name."""

    rate: float
    name: str = "adamw"
    rates: Mapping[str, float] = field(default_factory=dict)
    weight_decay: float = 0.0
    clip: float | None = None
    warmup_steps: int = 0
    decay_steps: int = 0
    scale_parameter: bool = False


@dataclass(frozen=True, slots=True)
class ObjectivePart:
    """One objective; the terms are those of `obverse.objectives.objectives.Objective`."""

    direction: str
    name: str
    weight: float = 1.0
    negatives: int = 0
    likelihood: float = 1.0
    unlikelihood: float = 0.0
    sink: float = 0.0
    choice: float = 0.0
    choice_scale: float = 1.0
    choice_mean: bool = False
    normalisation: str = "example"
    masked: bool = False


@dataclass(frozen=True, slots=True)
class TaskPart:
    """A task of a mixture.

    Attributes:
        task: as in the catalogue, a pattern ("superni/*"), or the absolute path of a `.toml` file.
        split: None for the task's own: train, or the only one; held out, the one that it reports on.
        rate: relative number of draws; None for in proportion to its size.
        templates: `USABLE`, or names.
        wordings: sets of the catalogue's wordings, by name.
    """

    task: str
    split: str | None = None
    rate: float | None = None
    templates: str | tuple[str, ...] = USABLE
    wordings: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether it is a user's own file."""
        return self.task.endswith(".toml")


@dataclass(frozen=True, slots=True)
class TemplatedPart:
    """Tasks under their templates, which make up a share of a mixture of symbols."""

    share: float
    tasks: tuple[TaskPart, ...]
    tasks_from: str | None = None


@dataclass(frozen=True, slots=True)
class SymbolsPart:
    """Prompts of exemplars under symbols of the training pool.

    Attributes:
        per_class: fewest and most exemplars of each class.
        layouts: names, one of which is drawn for each prompt.
        instruction: the share of prompts that begin with one.
        words: a file of words by rank (absolute); None for those of the package wordfreq.
    """

    per_class: tuple[int, int] = (2, 10)
    layouts: tuple[str, ...] = tuple(LAYOUTS)
    instruction: float = 0.0
    words: str | None = None
    templated: TemplatedPart | None = None


@dataclass(frozen=True, slots=True)
class MixturePart:
    """What is drawn from; a suite stands here as its tasks, `tasks_from` as in `obverse.catalog.suites.Suite`."""

    tasks: tuple[TaskPart, ...]
    tasks_from: str | None = None
    cap: int = _CAP
    temperature: float = 1.0
    cutting: str = "segments"
    symbols: SymbolsPart | None = None


@dataclass(frozen=True, slots=True)
class HeldOutPart:
    """What chooses the best checkpoint.

    Attributes:
        rows: of each task.
        every: steps between two looks.
        patience: looks without gain before training ends; None for no limit.
        every_instruction, every_text: of one's own texts, one in so many is kept aside; None without them.
    """

    tasks: tuple[TaskPart, ...] = ()
    tasks_from: str | None = None
    rows: int = 100
    every: int = 250
    patience: int | None = None
    every_instruction: int | None = None
    every_text: int | None = None


@dataclass(frozen=True, slots=True)
class SavePart:
    """Checkpoints: steps between two, and how many of the latest stay."""

    every: int = 250
    keep: int = 2


@dataclass(frozen=True, slots=True)
class OwnPart:
    """One's own texts with their wordings; all paths absolute.

    Attributes:
        asked: a folder of texts that carry their own questions; None for none.
        asked_rate: their draws.
    """

    rate: float
    facets: str
    texts: str
    asked: str | None = None
    asked_rate: float | None = None


@dataclass(frozen=True, slots=True)
class DataPart:
    """A data set whose columns become facets or, with `task`, a task under its own templates.

    Attributes:
        dataset: its name; blank where there is a task.
        fields: field -> column.
        label: the column of the right value.
        values: facet -> what the column's 0, 1, .. stand for; empty where rows bring their options.
        choices: the column of a row's options, a table of `text` and `label`; or None.
        options: the columns of a row's options, numbered from `first_label`.
        most_characters: of a text; None for no limit.
        templates: the share of its draws that come under promptsource templates.
    """

    rate: float
    dataset: str = ""
    task: str | None = None
    facets: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    choices: str | None = None
    options: tuple[str, ...] = ()
    first_label: int = 0
    most_characters: int | None = None
    templates: float = 0.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe with everything it left out filled in; see the top of this file.

    Draws come either from `mixture`, or from `own` and `data`.
    """

    name: str
    steps: int
    examples_per_step: int
    model: ModelPart
    lengths: LengthsPart
    optimizer: OptimizerPart
    objectives: tuple[ObjectivePart, ...]
    source: str = ""
    description: str = ""
    seed: int = 0
    token_budget: int = 16_384
    prior: float | None = None
    prior_share: float = 0.5
    earlier_data: tuple[str, ...] = ()
    mixture: MixturePart | None = None
    own: OwnPart | None = None
    data: tuple[DataPart, ...] = ()
    held_out: HeldOutPart | None = None
    save: SavePart = SavePart()

    @property
    def trained_sets(self) -> tuple[str, ...]:
        """The names of all sets that the trained model has met, own files by their stems, in alphabetical order."""
        names = {name for name, _ in self.trained_splits}
        return tuple(sorted({Path(n).stem if n.endswith(".toml") else n for n in names}))

    @property
    def trained_splits(self) -> tuple[tuple[str, str | None], ...]:
        """Each set that the trained model has met, own files by their paths, with its split; None for the usual one."""
        parts = list(self.mixture.tasks) if self.mixture is not None else []
        if self.mixture is not None and self.mixture.symbols is not None and self.mixture.symbols.templated is not None:
            parts += self.mixture.symbols.templated.tasks
        found = [(part.task, part.split) for part in parts]
        found += [(each.task or each.dataset, None) for each in self.data]
        return tuple(dict.fromkeys([*found, *((name, None) for name in self.earlier_data)]))


def read_recipe(path_or_name: str | Path, *, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a file, or the package's of that name.

    Args:
        overrides: such as `optimizer.rate=1e-4`, `objectives[1].weight=2` or `mixture.tasks=["mine.toml"]`, applied in
            order. Values are TOML; a text that is none needs no quotation marks, and nothing behind the sign takes the
            key out. Giving `tasks` takes the place of `suite`, and the other way round.

    Raises:
        RecipeError: there is no such recipe, or everything that is wrong with it and with the overrides.
    """
    path = locate(path_or_name)
    where = f"{path_or_name}"
    raw, folders = read_layers(path)
    faults: list[str] = []
    for override in overrides:
        set_value(raw, override, faults)
    recipe = _recipe(Table(raw, "", faults, folders), path.stem)
    if faults:
        faults = list(dict.fromkeys(faults))
        if overrides:
            where += f" with --set {' --set '.join(overrides)}"
        what = faults[0] if len(faults) == 1 else "\n  ".join([f"has {len(faults)} faults:", *faults])
        raise RecipeError(_printable(what), where=_printable(where, keep=""))
    return recipe


def resolved_toml(recipe: Recipe) -> str:
    """The recipe as TOML with every setting written out; it reads back as an equal one, wherever it lies."""
    head: list[str] = []
    sections: list[str] = []
    for key, value in _plain(recipe).items():
        if isinstance(value, dict):
            sections.append(_section(f"[{key}]", value))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            sections += [_section(f"[[{key}]]", entry) for entry in value]
        else:
            head.append(f"{key} = {toml_value(value)}")
    return "\n".join(["\n".join(head) + "\n", *sections])


def fingerprint(recipe: Recipe) -> dict[str, object]:
    """What changes the numbers of a training, as flat JSON values by key path.

    Two recipes with equal fingerprints train the same weights, step by step. Left out are what is for people, where
    files lie (their contents count: files stand here as digests, a base folder by its name), how often is looked and
    saved, what is made of the weights at the end, and what only trades time for memory. `steps` counts where the rate
    decays towards them: without that, a longer training is the continuation of a shorter one. `token_budget` counts for
    dropout alone, whose masks go by micro-batches.

    Raises:
        RecipeError: a file that the recipe names cannot be read.
    """
    raw = _plain(recipe)
    for key in ("name", "source", "description", "earlier_data", "save"):
        raw.pop(key, None)
    for section, keys in (
        ("model", ("gradient_checkpointing", "compile", "sharded", "trained_share")),
        ("held_out", ("every", "patience")),
    ):
        for key in keys:
            raw.get(section, {}).pop(key, None)
    if not recipe.optimizer.decay_steps:
        del raw["steps"]
    if recipe.model.dropout == 0:
        del raw["token_budget"]
    if os.path.isabs(raw["model"]["base"]):
        raw["model"]["base"] = Path(raw["model"]["base"]).name
    return dict(_flat("", raw))


def check_data(recipe: Recipe, data: Path, *, allow_missing: bool = False) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with patterns replaced by the tasks they stand for, and the sets that the data folder lacks.

    Args:
        data: a folder laid out as for `obverse.catalog.index.Catalog`.
        allow_missing: leave out of the recipe what the folder lacks, unless that is everything.

    Raises:
        RecipeError: all sets that the folder lacks, in one error.
        DataError: there is no such folder, or it holds no data at all.
    """
    catalog = Catalog(data)
    missing: dict[str, None] = {}

    def there(tasks: tuple[TaskPart, ...], tasks_from: str | None, kind: str, worded: bool) -> tuple[TaskPart, ...]:
        found, lacking = _presence(tasks, tasks_from, kind, catalog, worded)
        missing.update(dict.fromkeys(lacking))
        return found

    mixture, held_out = recipe.mixture, recipe.held_out
    drawn: list[object] = [recipe.own] if recipe.own is not None else []
    if mixture is not None:
        symbols = mixture.symbols
        if symbols is not None and symbols.templated is not None:
            part = symbols.templated
            templated = there(part.tasks, part.tasks_from, "training", True)
            part = replace(part, tasks=templated, tasks_from=None)
            symbols = replace(symbols, templated=part if templated else None)
        tasks = there(mixture.tasks, mixture.tasks_from, "training", symbols is None)
        mixture = replace(mixture, tasks=tasks, tasks_from=None, symbols=symbols)
        drawn += tasks
    if held_out is not None:
        asked = there(held_out.tasks, held_out.tasks_from, "evaluation", mixture is None or mixture.symbols is None)
        held_out = replace(held_out, tasks=asked, tasks_from=None)
    columns = []
    for entry in recipe.data:
        lacks = _lacks_data(entry, catalog)
        missing.update(dict.fromkeys(lacks))
        if not lacks:
            columns.append(entry)
    drawn += columns
    if missing and not (allow_missing and drawn):
        known = catalog.names()
        listed = "".join(f"\n  {name}{_meant(name, known)}" for name in missing)
        mend = "Add them, take them out of the recipe, or train without them: --allow-missing."
        if not drawn:
            mend = "That is everything the recipe trains on: name another folder."
        raise RecipeError(f"{data} lacks {len(missing)} of its sets:{listed}", where=recipe.name, mend=mend)
    if held_out is not None and recipe.held_out is not None and recipe.held_out.tasks and not held_out.tasks:
        held_out = held_out if recipe.own is not None else None
    return replace(recipe, mixture=mixture, held_out=held_out, data=tuple(columns)), tuple(missing)


# From tables to parts


def _recipe(table: Table, stem: str) -> Recipe:
    faults = table.faults
    name = table.text("name", stem) or stem
    source, description = table.note("source"), table.note("description")
    seed = table.given_count("seed", 0, least=0)
    steps = table.needed_count("steps", "Write how many steps to train, as in steps = 5000.")
    examples = table.needed_count(
        "examples_per_step", "Write how many draws make a step, as in examples_per_step = 32."
    )
    budget = table.given_count("token_budget", 16_384)
    prior = table.number("prior", above=0)
    prior_share = table.given_number("prior_share", 0.5, most=1)
    earlier = table.texts("earlier_data", 'Write names of sets, as in ["snli"].', empty=True)
    model = _model(table.needed_table("model", 'Write [model] and below it base = "..".'))
    lengths = _lengths(table.needed_table("lengths", "Write [lengths] and below it given = 384 and said = 64."))
    optimizer = _optimizer(table.needed_table("optimizer", "Write [optimizer] and below it rate = 1e-4."))
    objectives = _objectives(table)
    mixture = _mixture(table.table("mixture"))
    own = _own(table.table("own"))
    data = tuple(_data(entry) for entry in table.entries("data"))
    held_out = _held_out(
        table.table("held_out"),
        own=table.has("own"),
        symbols=mixture is not None and mixture.symbols is not None,
    )
    save = _save(table.table("save"))
    table.close()

    if prior is not None and model.base and model.base != MINI_BASE:
        table.fault("prior", "needs the encoder of another base", f'Take it out, or write base = "{MINI_BASE}".')
    similar = [part.direction == "similarity" for part in objectives if part.direction]
    if model.base and similar and any(similar) != (model.base == MINI_ENCODER):
        mend = f'It goes with base = "{MINI_ENCODER}".' if any(similar) else 'It goes with direction = "similarity".'
        table.fault("objectives" if any(similar) else "model", "trains a sentence encoder", mend)
    if len(similar) > 1 and any(similar):
        table.fault("objectives", "are several, and a sentence encoder has one", "Keep one of them.")
    if table.has("token_budget") and table.has("lengths") and budget < lengths.given + lengths.said:
        table.fault(
            "token_budget",
            f"is {budget}, less than one pair of {lengths.given} + {lengths.said} tokens",
            "Raise it, or shorten [lengths].",
        )
    if not table.has("mixture") and not table.has("own") and not table.has("data"):
        faults.append('`mixture` is missing. Write [mixture] and below it suite = "flipped-20" or tasks = [..].')
    if table.has("mixture") and (table.has("own") or table.has("data")):
        table.fault("mixture", f"stands beside `{'own' if table.has('own') else 'data'}`", "Draw from one of the two.")
    if table.has("data") and not table.has("own"):
        table.fault("data", "needs [own]", "Write tasks under [mixture] instead, or add [own].")
    if own is not None and not table.has("held_out"):
        table.fault("held_out", "is missing", "Beside [own] it says which texts are kept aside.")
    _check_symbols(table, objectives, mixture)
    _check_apart(table, mixture, held_out)
    return Recipe(
        name=name,
        source=source,
        description=description,
        seed=seed,
        steps=steps,
        examples_per_step=examples,
        token_budget=budget,
        prior=prior,
        prior_share=prior_share,
        earlier_data=earlier,
        model=model,
        lengths=lengths,
        optimizer=optimizer,
        objectives=objectives,
        mixture=mixture,
        own=own,
        data=data,
        held_out=held_out,
        save=save,
    )


def _model(table: Table) -> ModelPart:
    base = table.needed_text("base", f'Name a folder, a hub id or "{MINI_BASE}".')
    if base == "counting":
        table.fault("base", "is 'counting', which has nothing to train", f'For a first try write "{MINI_BASE}".')
    elif base and base not in (MINI_BASE, MINI_ENCODER):
        folder = table.found(base, folder=True)
        if folder is None and not _HUB_ID.fullmatch(base):
            table.fault("base", f"is {base!r}, neither a folder nor a hub id", "A hub id reads google/t5-v1_1-base.")
        base = folder or base
    mini = base == MINI_BASE
    layers: tuple[int, ...] = (1, 3, 5) if mini else ()
    for key in ("decoder_layers", "frozen_encoder_layers"):
        fits = mini or (base == MINI_ENCODER and key == "frozen_encoder_layers")
        if table.has(key) and table.raw[key] and base and not fits:
            table.fault(key, f"is for {MINI_BASE} alone", "Take it out.")
    if mini and table.has("decoder_layers"):
        value = table.raw["decoder_layers"]
        if isinstance(value, list) and value and all(type(n) is int and 0 <= n < _ENCODER_LAYERS for n in value):
            layers = tuple(value)
        else:
            mend = f"Write a list of encoder layers, 0 to {_ENCODER_LAYERS - 1}, as in [1, 3, 5]."
            table.fault("decoder_layers", f"is {called(value)}", mend)
    has_encoder = base in (MINI_BASE, MINI_ENCODER)
    frozen = table.given_count("frozen_encoder_layers", 0, least=0, most=_ENCODER_LAYERS) if has_encoder else 0
    part = ModelPart(
        base=base,
        eos=table.text("eos", among=EOS_PRESETS),
        slots=table.text("slots", among=SLOTS),
        dropout=table.number("dropout", 0.1 if mini else None, below=1),
        precision=table.text("precision", "auto", among=PRECISIONS) or "auto",
        gradient_checkpointing=table.flag("gradient_checkpointing"),
        compile=table.flag("compile"),
        lora=_lora(table.table("lora")),
        decoder_layers=layers,
        frozen_encoder_layers=frozen,
        sharded=table.flag("sharded"),
        trained_share=table.given_number("trained_share", 1.0, above=0.0, most=1.0),
    )
    if part.sharded and base == MINI_ENCODER:
        table.fault("sharded", f"is not for {MINI_ENCODER}, which every device holds whole", "Take it out.")
    if part.trained_share < 1 and (mini or part.sharded or part.lora is not None):
        what = MINI_BASE if mini else "sharded" if part.sharded else "lora"
        table.fault("trained_share", f"does not go with {what}", "Take it out.")
    if part.sharded and part.compile:
        table.fault("sharded", "goes without compile", "Set one of them to false.")
    table.close()
    return part


def _lora(table: Table | None) -> LoraPart | None:
    if table is None:
        return None
    rank = table.needed_count("rank", "Write how many directions an adapter has, as in rank = 16.")
    part = LoraPart(
        rank,
        table.given_number("alpha", 2.0 * rank, above=0),
        table.given_number("dropout", 0.0, below=1),
        table.texts("targets", 'Write names of layers, as in ["q", "v"].', empty=True),
    )
    table.close()
    return part


def _lengths(table: Table) -> LengthsPart:
    part = LengthsPart(
        # A side's own end and at least one more token.
        table.needed_count("given", "Write the most tokens that are read, as in given = 384.", least=2),
        table.needed_count("said", "Write the most tokens that are said, as in said = 64.", least=2),
        table.text("truncation", "fields", among=TRUNCATIONS) or "fields",
    )
    table.close()
    return part


def _optimizer(table: Table) -> OptimizerPart:
    if not table.has("rate"):
        table.fault("rate", "is missing", "Write the learning rate, as in rate = 1e-4.")
    rates: dict[str, float] = {}
    if (listed := table.table("rates")) is not None:
        for prefix in listed.raw:
            rates[prefix] = listed.given_number(prefix, 0.0)
            if not prefix.strip():
                listed.fault("", "has a blank name", "Write how names of parameters begin.")
    name = table.text("name", "adamw", among=OPTIMIZERS) or "adamw"
    part = OptimizerPart(
        rate=table.given_number("rate", 1.0, above=0),
        name=name,
        rates=rates,
        weight_decay=table.given_number("weight_decay", 0.0),
        clip=table.number("clip") or None,
        warmup_steps=table.given_count("warmup_steps", 0, least=0),
        decay_steps=table.given_count("decay_steps", 0, least=0),
        scale_parameter=table.flag("scale_parameter"),
    )
    if part.scale_parameter and name != "adafactor":
        table.fault("scale_parameter", "is for adafactor alone", "Take it out.")
    table.close()
    return part


def _objectives(table: Table) -> tuple[ObjectivePart, ...]:
    entries = table.entries("objectives")
    if not table.has("objectives") or table.raw["objectives"] == []:
        table.fault("objectives", "is missing", 'Write [[objectives]] and below it direction = "flipped".')
    parts: list[ObjectivePart] = []
    for entry in entries:
        direction = entry.needed_text("direction", nearest("", DIRECTIONS), among=DIRECTIONS)
        similar = direction == "similarity"
        weights = {
            key: entry.given_number(key, 1.0 if similar and key == "choice" else 0.0)
            for key in ("unlikelihood", "sink", "choice")
        }
        contrast = [key for key, weight in weights.items() if weight]
        part = ObjectivePart(
            direction=direction,
            name=entry.text("name", direction) or direction,
            weight=entry.given_number("weight", 1.0, above=0),
            negatives=entry.given_count("negatives", 1 if contrast else 0, least=0),
            likelihood=entry.given_number("likelihood", 0.0 if similar else 1.0),
            **weights,
            choice_scale=entry.given_number("choice_scale", 1.0, above=0),
            choice_mean=entry.flag("choice_mean"),
            normalisation=entry.text("normalisation", "example", among=NORMALISATIONS) or "example",
            masked=entry.flag("masked"),
        )
        entry.close()
        if contrast and not part.negatives:
            mend = f"`{contrast[0]}` compares with wrong options: write 1 or more."
            entry.fault("negatives", "is 0", mend)
        if similar and (part.likelihood or part.unlikelihood or part.sink or not part.choice):
            entry.fault("", "compares options, so `choice` is its only term", "Take the other weights out.")
        elif not contrast and not part.likelihood:
            entry.fault("", "has no term", "Give likelihood, unlikelihood, sink or choice a weight above 0.")
        if part.masked and direction and direction != "channel":
            entry.fault("masked", "is for the channel direction alone", "Take it out.")
        if part.name and part.name in [other.name for other in parts]:
            entry.fault("", f"is the second called {part.name!r}", "Give it a `name` of its own.")
        parts.append(part)
    return tuple(parts)


def _mixture(table: Table | None) -> MixturePart | None:
    if table is None:
        return None
    with_symbols = table.has("symbols")
    tasks, tasks_from, cap = _tasks(table, "training", symbols=with_symbols)
    part = MixturePart(
        tasks=tasks,
        tasks_from=tasks_from,
        cap=table.given_count("cap", cap or _CAP),
        temperature=table.given_number("temperature", 1.0, above=0),
        cutting=table.text("cutting", "segments", among=CUTTINGS) or "segments",
        symbols=_symbols(table.table("symbols")),
    )
    table.close()
    return part


def _symbols(table: Table | None) -> SymbolsPart | None:
    if table is None:
        return None
    per_class = (2, 10)
    if table.has("per_class"):
        value = table.raw["per_class"]
        if isinstance(value, list) and [type(n) for n in value] == [int, int] and 1 <= value[0] <= value[1]:
            per_class = (value[0], value[1])
        else:
            mend = "Write the fewest and the most exemplars of a class, as in [2, 10]."
            table.fault("per_class", f"is {called(value)}", mend)
    layouts = tuple(LAYOUTS)
    if table.has("layouts") and table.raw["layouts"] != "all":
        layouts = table.texts("layouts", 'Write "all" or a list of names.', among=LAYOUTS)
    templated = None
    if (mixed := table.table("templated")) is not None:
        if not mixed.has("share"):
            mixed.fault("share", "is missing", "Write which part of all draws it makes, as in share = 0.25.")
        share = mixed.given_number("share", 0.5, above=0, below=1)
        tasks, tasks_from, _ = _tasks(mixed, "training")
        mixed.close()
        templated = TemplatedPart(share, tasks, tasks_from)
    part = SymbolsPart(
        per_class,
        layouts,
        table.given_number("instruction", 0.0, most=1),
        table.path("words"),
        templated,
    )
    table.close()
    return part


def _tasks(table: Table, kind: str, *, symbols: bool = False) -> tuple[tuple[TaskPart, ...], str | None, int | None]:
    """The tasks of a table with `suite` or `tasks`, the file that patterns go by, and the suite's cap."""
    named = table.text("suite")
    entries = table.entries("tasks", shorthand="task")
    tasks_from = table.text("tasks_from")
    if table.has("suite") and table.has("tasks"):
        table.fault("tasks", "stands beside `suite`", "Keep one of the two.")
    elif kind == "training" and not table.has("suite") and table.raw.get("tasks", []) == []:
        example = "symbol-tuning" if symbols else "flipped-20"
        table.fault("", "says nothing to train on", f'Write suite = "{example}", or tasks = ["glue/qqp", ..].')
    owners = [(entry, "") for entry in entries]
    parts = [_task(entry, kind) for entry in entries]
    cap = None
    if table.has("suite") and tasks_from is not None:
        table.fault("tasks_from", "goes with `tasks`", "A suite names its own.")
    elif tasks_from is not None and (os.path.isabs(tasks_from) or ".." in tasks_from or "/" not in tasks_from):
        table.fault("tasks_from", f"is {tasks_from!r}", "Name a file below the data folder.")
    if named is not None:
        suite = _suite(table, named, kind)
        if suite is not None:
            cap, tasks_from = suite.cap, suite.tasks_from
            owners = [(table, "suite")] * len(suite.tasks)
            parts = [TaskPart(t.name, t.split, t.rate, t.templates) for t in suite.tasks]
    plain = plain_names() if symbols else []
    for i, (part, (owner, key)) in enumerate(zip(parts, owners, strict=True)):
        if part.task and part in parts[:i]:
            owner.fault(key, f"has {part.task!r} a second time")
        if symbols and part.task:
            if part.wordings or part.templates != USABLE:
                given = "wordings" if part.wordings else "templates"
                owner.fault(key, f"has `{given}`, and symbols stand without templates", "Take it out.")
            if part.task not in plain:
                shown = Path(part.task).name if part.is_own else part.task
                mend = nearest(shown, plain)
                if kind == "training":
                    mend += " Other tasks go under [mixture.symbols.templated]."
                owner.fault(key, f"is {shown!r}, which has no plain form", mend)
    rated = sum(part.rate is not None for part in parts)
    if 0 < rated < len(parts):
        table.fault("", f"gives a rate to {rated} of {len(parts)} tasks", "Give every task one, or none.")
    if rated and not any(part.rate for part in parts):
        table.fault("", "has no rate above 0")
    return tuple(parts), tasks_from, cap


def _task(entry: Table, kind: str) -> TaskPart:
    name = entry.needed_text("task", 'Write a name such as "glue/qqp", or a file such as "mine.toml".')
    if name.endswith(".toml"):
        found = entry.found(name)
        if found is None:
            entry.fault("task", f"is {name!r}, a file that is not there", f"Looked for {entry.folders[0] / name}.")
        name = found or name
    elif name and (not all(name.split("/")) or name != name.strip() or ".." in name.split("/") or "\\" in name):
        entry.fault("task", f"is {name!r}, no task's name", 'Write it as in "glue/qqp" or "superni/*".')
    templates: str | tuple[str, ...] = USABLE
    if entry.has("templates") and entry.raw["templates"] != USABLE:
        templates = entry.texts("templates", 'Write "usable" or a list of names.') or USABLE
    known = {each.name: each for each in wording_sets()}
    wordings = entry.texts("wordings", "Write a list of names of wordings.", among=known, empty=True)
    for each in wordings:
        if each in known and known[each].task not in (None, name):
            entry.fault("wordings", f"has {each!r}, which was written for {known[each].task}", "Take a general one.")
    part = TaskPart(
        task=name,
        split=entry.text("split"),
        rate=entry.number("rate") if kind == "training" else None,
        templates=templates,
        wordings=wordings,
    )
    entry.close()
    return part


def _suite(table: Table, named: str, kind: str) -> Suite | None:
    try:
        file = table.found(named) if named.endswith(".toml") else None
        suite = read_suite(named) if file is None else read_suite_file(Path(file))
    except ObverseError as error:
        table.fault("suite", f"is {named!r}: {error.what.rstrip('.')}", error.mend or "")
        return None
    if kind == "training" and suite.kind != kind:
        table.fault("suite", f"is {named!r}, for evaluation alone", f"For training: {', '.join(suite_names(kind))}.")
        return None
    if kind == "training" and any(task.limit for task in suite.tasks):
        table.fault("suite", f"is {named!r}, which limits rows", "Training takes all rows: use `cap`.")
    return suite


def _held_out(table: Table | None, *, own: bool, symbols: bool) -> HeldOutPart | None:
    if table is None:
        return None
    tasks, tasks_from, _ = _tasks(table, "evaluation", symbols=symbols)
    for key, example in (("every_instruction", 8), ("every_text", 10)):
        if own and not table.has(key):
            table.fault(
                key, "is missing", f"Beside [own] write how many there are to each kept aside: {key} = {example}."
            )
        if table.has(key) and not own:
            table.fault(key, "goes with [own] alone", "Take it out.")
    if not own and not table.has("suite") and table.raw.get("tasks", []) == []:
        table.fault("", "names no tasks", 'Write tasks = ["rotten_tomatoes", ..].')
    part = HeldOutPart(
        tasks=tasks,
        tasks_from=tasks_from,
        rows=table.given_count("rows", 100),
        every=table.given_count("every", 250),
        patience=table.count("patience"),
        every_instruction=table.count("every_instruction", least=2),
        every_text=table.count("every_text", least=2),
    )
    table.close()
    return part


def _save(table: Table | None) -> SavePart:
    if table is None:
        return SavePart()
    part = SavePart(table.given_count("every", 250), table.given_count("keep", 2))
    table.close()
    return part


def _own(table: Table | None) -> OwnPart | None:
    if table is None:
        return None
    if not table.has("rate"):
        table.fault("rate", "is missing", "Write the draws that all texts share, as in rate = 60.")
    part = OwnPart(
        table.given_number("rate", 1.0, above=0),
        table.path("facets", "facets.toml") or "",
        table.path("texts", "texts", folder=True) or "",
    )
    if table.has("asked") != table.has("asked_rate"):
        table.fault("asked", "and asked_rate go together", 'Write both, as in asked = "asked" and asked_rate = 60.')
    if table.has("asked"):
        part = replace(
            part,
            asked=table.path("asked", "asked", folder=True) or "",
            asked_rate=table.given_number("asked_rate", 1.0),
        )
    table.close()
    return part


def _data(entry: Table) -> DataPart:
    if not entry.has("rate"):
        entry.fault("rate", "is missing", "Write its draws, as in rate = 10.")
    rate = entry.given_number("rate", 1.0)
    if entry.has("task"):
        named = _task(Table({"task": entry.raw["task"]}, entry.where, entry.faults, entry.folders), "training").task
        for key in entry.raw:
            if key not in ("task", "rate") and entry.raw[key]:
                entry.fault(key, "does not go with `task`", "Take it out, or name a `dataset` instead.")
        return DataPart(rate, task=named)
    dataset = entry.needed_text("dataset", 'Name a data set such as "glue/sst2", or a `task`.')
    facets = entry.texts("facets", 'Write names of facets, as in ["sentiment"].')
    if not entry.has("facets"):
        entry.fault("facets", "is missing", 'Write names of facets, as in ["sentiment"].')
    columns = {}
    for key, value in _pairs(entry, "fields", 'Write which column each field is, as in { text = "sentence" }.'):
        if isinstance(value, str) and value.strip():
            columns[key] = value
        else:
            entry.fault("fields", f"is {called(value)}", "Write a column's name in quotation marks.", at=key)
    label = entry.needed_text("label", "Name the column of the right value.")
    choices = entry.text("choices")
    options = entry.texts("options", "Write the columns of a row's options.")
    values = {}
    if entry.has("values"):
        for key, value in _pairs(entry, "values", 'Write what 0, 1, .. stand for: { sentiment = ["bad", "good"] }.'):
            if isinstance(value, list) and len(value) > 1 and all(isinstance(v, str) and v.strip() for v in value):
                values[key] = tuple(value)
            else:
                entry.fault("values", f"is {called(value)}", "Write a list of at least two texts.", at=key)
            if key not in facets and facets:
                entry.fault("values", "is none of the `facets`", nearest(key, set(facets)), at=key)
    ways = [key for key in ("values", "choices", "options") if entry.has(key)]
    if len(ways) != 1:
        what = f"has {' and '.join(f'`{way}`' for way in ways)}" if ways else "does not say what to choose between"
        entry.fault("", what, "Give one of `values`, `choices` and `options`.")
    for facet in facets if ways == ["values"] else ():
        if facet not in entry.raw["values"]:
            entry.fault("values", f"lacks the facet {facet!r}")
    part = DataPart(
        rate=rate,
        dataset=dataset,
        facets=facets,
        fields=columns,
        label=label,
        values=values,
        choices=choices,
        options=options,
        first_label=entry.given_count("first_label", 0, least=0),
        most_characters=entry.count("most_characters"),
        templates=entry.given_number("templates", 0.0, most=1),
    )
    entry.close()
    return part


def _pairs(entry: Table, key: str, hint: str) -> list[tuple[str, Any]]:
    if not entry.has(key):
        entry.fault(key, "is missing", hint)
        return []
    value = entry.raw[key]
    if not isinstance(value, dict) or not value:
        entry.fault(key, f"is {'empty' if value == {} else called(value)}", hint)
        return []
    return list(value.items())


def _check_symbols(table: Table, objectives: Sequence[ObjectivePart], mixture: MixturePart | None) -> None:
    symbols = mixture is not None and mixture.symbols is not None
    asked = [i for i, part in enumerate(objectives, 1) if part.direction == "symbol"]
    if asked and not symbols and not (mixture is None and table.has("mixture")):
        table.fault("objectives", "learns symbols", "Say under [mixture.symbols] what prompts hold.", at=asked[0])
    if symbols and objectives and not asked:
        mend = "Take it out, or add such an objective."
        table.fault("mixture", "goes with the direction 'symbol', which no objective has", mend, at="symbols")


def _check_apart(table: Table, mixture: MixturePart | None, held_out: HeldOutPart | None) -> None:
    """What is trained on can choose no checkpoint."""
    if mixture is None or held_out is None:
        return
    trained = {(part.task, part.split or _only_split(part) or "train") for part in mixture.tasks}
    for part in held_out.tasks:
        if (part.task, part.split or _only_split(part)) in trained:
            name = Path(part.task).name if part.is_own else part.task
            split = f", split {part.split!r}," if part.split else ""
            table.fault(
                "held_out", f"has {name!r}{split} which is trained on", "Name another split or task.", at="tasks"
            )


def _only_split(part: TaskPart) -> str | None:
    """The split of a task file with a single table; None for every other task."""
    if not part.is_own:
        return None
    try:
        splits = list(read_own(part.task).files)
    except DataError:
        return None  # opening it says what is wrong with it
    return splits[0] if len(splits) == 1 else None


# What a data folder holds


def _presence(
    tasks: tuple[TaskPart, ...], tasks_from: str | None, kind: str, catalog: Catalog, worded: bool
) -> tuple[tuple[TaskPart, ...], list[str]]:
    """The tasks that are there, patterns replaced, and names for the others.

    Args:
        worded: they come under templates, so that a data set without any is not there either.
    """
    assert catalog.data is not None
    found: list[TaskPart] = []
    missing: list[str] = []
    taken = {part.task for part in tasks}
    for part in tasks:
        is_pattern = "*" in part.task
        one = Suite(
            "", "", kind, (SuiteTask(part.task, split=part.split),), tasks_from=tasks_from if is_pattern else None
        )
        here, lacking = present(one, catalog.data)
        missing += [_with_split(each.name, each.split) for each in lacking]
        # A pattern of generated tasks is always there and comes back as it is.
        names = [each for task in here for each in (_generated(task.name, catalog) if task.is_pattern else [task.name])]
        for name in names:
            if is_pattern and name in taken:
                continue
            if worded and _is_p3(name) and not template_file(catalog.data, name.removeprefix("p3/")).is_file():
                missing.append(f"templates of {name}")
                continue
            taken.add(name)
            found.append(replace(part, task=name))
    return tuple(found), missing


def _generated(pattern: str, catalog: Catalog) -> list[str]:
    return [name for name in catalog.names(pattern.split("/")[0]) if fnmatch.fnmatchcase(name, pattern)]


def _lacks_data(entry: DataPart, catalog: Catalog) -> list[str]:
    assert catalog.data is not None
    if entry.task is not None:
        return _presence((TaskPart(entry.task),), None, "training", catalog, True)[1]
    rows = catalog.data / "p3" / entry.dataset / "train.parquet"
    missing = [] if rows.is_file() else [_with_split(entry.dataset, "train")]
    if entry.templates and not template_file(catalog.data, entry.dataset).is_file():
        missing.append(f"templates of {entry.dataset}")
    return missing


def _is_p3(name: str) -> bool:
    first = name.split("/", 1)[0]
    return not name.endswith(".toml") and (first == "p3" or first not in KINDS)


def _with_split(name: str, split: str | None) -> str:
    return name if split is None else f"{name}, split {split!r}"


def _meant(missing: str, known: Collection[str]) -> str:
    """What a name that is not there may have been meant for; blank for names that are right, and where none is near."""
    name = missing.removeprefix("templates of ").split(", split ")[0]
    if name in known or any(name == task.name for suite in suite_names() for task in read_suite(suite).tasks):
        return ""
    hint = nearest(name, known)
    return f". {hint}" if hint.startswith("Did") else ""


# Out again


def _plain(value: Any) -> Any:
    """Parts as tables and lists; what is None or empty is left out, and reads back as such."""
    if is_dataclass(value):
        found = {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
        return {key: each for key, each in found.items() if each not in (None, [], {}, "")}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def _section(head: str, table: Mapping[str, Any]) -> str:
    return "".join(
        [f"{head}\n", *(f"{toml_key(key)} = {toml_value(value, lines=True)}\n" for key, value in table.items())]
    )


def _flat(where: str, value: Any) -> Iterator[tuple[str, object]]:
    """Values by key path; a file stands as the digest of what it holds."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _flat(under(where, key), each)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for i, each in enumerate(value, 1):
            yield from _flat(f"{where}[{i}]", each)
    elif isinstance(value, str) and os.path.isabs(value):
        yield where, _digest(Path(value))
    else:
        yield where, value


def _digest(path: Path) -> str:
    """Of a file's bytes; of a task file with its tables; of a folder's `*.jsonl`."""
    try:
        files = [path]
        if path.is_dir():
            files = sorted(path.glob("*.jsonl"))
        elif path.suffix == ".toml":
            files += _tables(path)
        parts = []
        for each in files:
            with each.open("rb") as file:
                parts.append(f"{each.name} {hashlib.file_digest(file, 'sha256').hexdigest()}")
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}", where=str(error.filename or path)) from None
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _tables(path: Path) -> list[Path]:
    """The tables of a task file; none where the file is something else, such as facets."""
    try:
        return list(read_own(path).files.values())
    except DataError:
        return []


def _printable(text: str, *, keep: str = "\n") -> str:
    """Without what no terminal can show."""
    return "".join(each if each.isprintable() or each in keep else "\ufffd" for each in text)
