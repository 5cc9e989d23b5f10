"""`obverse report`: a page on one or more runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from obverse.catalog.algorithms import normalised
from obverse.catalog.index import Catalog
from obverse.errors import DataError, ObverseError, OutputError
from obverse.recipes.output_files import refuse_unwritable, write_text
from obverse.reports.columns import ReportedRun
from obverse.reports.markdown import markdown
from obverse.reports.page import page
from obverse.reports.pairs import FoundTexts, Place
from obverse.reports.pictures import draw_piece
from obverse.reports.pieces import pieces_of
from obverse.reports.results import RESAMPLES, JudgedRun, summarize_judged
from obverse.reports.typography import collapsed, counted, shorten
from obverse.runs.store import read_run
from obverse.tasks.task import Rows

_GENERATED = ("list-functions/", "turing-concepts/")
_ENDINGS = (".html", ".htm")
_TEXT_CELLS, _LEAST_CELLS = 400, 60


@dataclass(frozen=True)
class ReportSettings:
    """What to report on; names as on the command line.

    Attributes:
        runs: folders.
        output: the page.
        data: the data folder that texts are read from; None tells instances by their ids.
        pieces: a folder for a picture and a Markdown file of each piece; None for none.
        resamples: of every bootstrap.
    """

    runs: tuple[Path, ...]
    output: Path = Path("report.html")
    data: Path | None = None
    pieces: Path | None = None
    resamples: int = RESAMPLES


@dataclass(frozen=True)
class Reported:
    """What was written.

    Attributes:
        pieces: the files of the pieces.
        notes: what a reader should know before reading, a sentence each.
    """

    output: Path
    pieces: tuple[Path, ...]
    notes: tuple[str, ...]


def report(settings: ReportSettings, *, progress: Callable[[str], None] = lambda what: None) -> Reported:
    """Read the runs, work out their figures and write the page.

    Args:
        progress: told what is being done.

    Raises:
        OutputError: the page or the pieces cannot be written; asked before any work is done.
        DataError: a folder holds no run, or one that cannot be read; there is no data folder.
        ObverseError: ROUGE-L is wanted and its package is not installed.
    """
    _check_output(settings)
    catalog = None if settings.data is None else Catalog(settings.data)
    runs = []
    for name, folder in zip(_names(settings.runs), settings.runs, strict=True):
        progress(f"{name}: reading")
        run = read_run(folder)
        if not len(run.records):
            raise DataError("the run holds no record yet", where=str(folder), mend="Report on it once it has some.")
        judged = JudgedRun.of(run, normalise=_normalise)
        progress(f"{name}: {len(run.records):,} records")
        runs.append(ReportedRun(name, judged, summarize_judged(judged, resamples=settings.resamples)))
    progress("comparing")
    pieces = pieces_of(runs, texts=None if catalog is None else _Texts(catalog).find)
    titles = dict.fromkeys(run.judged.settings.title for run in runs)
    models = dict.fromkeys(f"{run.judged.run.manifest.model}" for run in runs)
    progress("writing")
    write_text(settings.output, page("; ".join(titles), "; ".join(models), pieces))
    files = []
    if settings.pieces is not None:
        for number, piece in enumerate(pieces, 1):
            progress(f"drawing {piece.title}")
            stem = settings.pieces / f"{number:02d}-{piece.name}"
            draw_piece(piece, stem.with_suffix(".png"))
            write_text(stem.with_suffix(".md"), markdown(piece))
            files += [stem.with_suffix(".png"), stem.with_suffix(".md")]
    return Reported(settings.output, tuple(files), tuple(_notes(runs)))


def _check_output(settings: ReportSettings) -> None:
    if not settings.runs:
        raise DataError("there is no run to report on", mend="Name the folder of at least one.")
    if settings.output.suffix.lower() not in _ENDINGS:
        # A page in the place of a run's records, by a slip of the hand, would cost the run.
        raise OutputError("the page is HTML", where=str(settings.output), mend="Let the name end in .html.")
    refuse_unwritable(settings.output)
    seen: dict[Path, Path] = {}
    for folder in settings.runs:
        first = seen.setdefault(folder.resolve(), folder)
        if first is not folder:
            raise DataError("the run is named twice", where=str(folder), mend="Name it once.")
    if settings.pieces is not None:
        if settings.pieces.exists() and not settings.pieces.is_dir():
            raise OutputError("is a file, not a folder", where=str(settings.pieces), mend="Name a folder.")
        try:
            settings.pieces.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot be made: {error.strerror}", where=str(settings.pieces)) from None
        refuse_unwritable(settings.pieces / "piece.png")


def _names(folders: Sequence[Path]) -> list[str]:
    """Short names of the folders; those that are called alike are numbered."""
    names = [folder.resolve().name or str(folder) for folder in folders]
    alike = Counter(names)
    numbers: Counter[str] = Counter()
    told = []
    for name in names:
        numbers[name] += 1
        told.append(f"{name} ({numbers[name]})" if alike[name] > 1 else name)
    return told


def _normalise(task: str) -> Callable[[str], str] | None:
    """How a task's generated answers are compared; prose is compared as prose."""
    return normalised if task.startswith(_GENERATED) else None


def _notes(runs: Sequence[ReportedRun]) -> list[str]:
    notes = []
    for run in runs:
        if not run.judged.run.is_finished:
            notes.append(f"{run.name} is unfinished: the figures are of the records that are there so far.")
        if run.judged.run.faults:
            notes.append(f"{run.name}: {counted(len(run.judged.run.faults), 'damaged line')} passed over.")
    return notes


class _Texts:
    """Finds the texts of instances in a data folder."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def find(self, task: str, split: str, places: Sequence[Place]) -> FoundTexts:
        """The fields of the rows, those that are texts or numbers."""
        try:
            rows = self._catalog.open(task).rows(split)
            found = {each.row: text for each in places if (text := _text(rows, each)) is not None}
        except ObverseError as error:
            return FoundTexts({}, f"The texts of {task} cannot be read: {error.what}.")
        missing = len(places) - len(found)
        if missing:
            return FoundTexts(found, f"{task}: {missing} of {len(places)} instances are not those of the data folder.")
        return FoundTexts(found)


def _text(rows: Rows, place: Place) -> str | None:
    """An instance's fields; None where the row of that place has another id."""
    if place.position >= len(rows):
        return None
    example = rows[place.position]
    if example.id != place.row:
        return None
    fields = {name: value.strip() for name, value in example.fields.items() if isinstance(value, str) and value.strip()}
    if not fields:
        fields = {name: str(value) for name, value in example.fields.items()}
    # A long field must not push the others out of sight.
    room = max(_LEAST_CELLS, _TEXT_CELLS // max(1, len(fields)))
    told = {name: shorten(collapsed(value), room) for name, value in fields.items()}
    return " · ".join(told.values() if len(told) == 1 else (f"{name}: {value}" for name, value in told.items()))
