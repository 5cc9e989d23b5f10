"""`obverse predict`."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from obverse.errors import DataError, MethodError, OutputError
from obverse.recipes.predict import PredictSettings, Watcher, explain, predict
from obverse.tasks.labels import LabelSet


def predict_command(
    input: Annotated[Path, typer.Argument(help="A .csv, .tsv, .jsonl or .parquet file, or - for lines on standard input.")],
    labels: Annotated[
        str | None,
        typer.Option("--labels", "-l", help='Labels with commas between ("praise, complaint, question"), each perhaps with ": description"; or a file with one a line.'),
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Option("--instruction", "-i", help="What is to be decided; {column} puts a column there. Without it one is built from the labels."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", "-t", help="Column that holds the text; may be given several times.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Labelled table; its ending chooses the format. Default: standard output.")] = None,
    gold: Annotated[str | None, typer.Option(help="Column with the right labels: prints accuracy, macro-F1 and confusion.")] = None,
    options_column: Annotated[str | None, typer.Option(help="Column with each row's own options (a JSON list, or ||| between).")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="obverse-mini, a folder, or a hub id.")] = "obverse-mini",
    method: Annotated[str | None, typer.Option(help="direct, channel, flipped, pmi, product or blend. Default: the model's own.")] = None,
    length_rule: Annotated[str | None, typer.Option(help="sum, token or byte. Default: the model's own.")] = None,
    calibration: Annotated[str, typer.Option(help="none, contextual, batch, contextual-log or batch-log.")] = "none",
    batch_rows: Annotated[int, typer.Option(help="Texts that batch calibration estimates its bias on.")] = 1000,
    label_prior: Annotated[str | None, typer.Option(help='How frequent each label is expected to be ("0.5, 0.3, 0.2").')] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the softmax over labels. Default: the one kept with the model.")] = None,
    min_confidence: Annotated[float, typer.Option(help="Below it the label stays empty and is counted.")] = 0.0,
    review: Annotated[int, typer.Option(help="Write the K least sure rows to OUTPUT.review as well.", metavar="K")] = 0,
    limit: Annotated[int | None, typer.Option(help="Label the first N rows only, and say how long all would take.", metavar="N")] = None,
    explain_row: Annotated[int | None, typer.Option("--explain", help="Show for row N which words of the instruction spoke for which label.", metavar="N")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the summary (or the explanation) to a .png, .svg or .pdf file.")] = None,
    json_summary: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    skip_blank: Annotated[bool, typer.Option("--skip-blank", help="Leave the label of rows without text empty.")] = False,
    input_format: Annotated[str | None, typer.Option(help="csv, tsv, jsonl, parquet or lines. Default: by the ending.")] = None,
    eos: Annotated[str | None, typer.Option(help="End-of-sequence preset: t0, flipped, lm-eval or own. Default: by the model.")] = None,
    truncation: Annotated[str | None, typer.Option(help="fields (the longest text is shortened) or reference (cut from the right).")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps. Default: the best there is.")] = None,
    allow_pickle: Annotated[bool, typer.Option("--allow-pickle", help="Load legacy .bin weights, through the weights-only reader.")] = False,
) -> None:  # fmt: skip
    """Label every text of a table with labels the model has never seen."""
    if resume and overwrite:
        raise MethodError("--resume and --overwrite exclude each other", mend="--resume goes on, --overwrite begins anew.")
    if json_summary and output is None and explain_row is None:
        raise OutputError("--json needs --output: rows and summary cannot share standard output")
    settings = PredictSettings(
        input=input,
        output=output,
        labels=None if labels is None else _labels(labels),
        instruction=instruction,
        text=tuple(text or ()),
        options_column=options_column,
        gold=gold,
        input_format=input_format,
        model=model,
        method=method,
        length_rule=length_rule,
        calibration=calibration,
        batch_rows=batch_rows,
        label_prior=None if label_prior is None else _numbers(label_prior),
        temperature=temperature,
        eos=eos,
        truncation=truncation,
        allow_pickle=allow_pickle,
        device=device,
        min_confidence=min_confidence,
        review=review,
        limit=limit,
        skip_blank=skip_blank,
        resume=resume,
        overwrite=overwrite,
        picture=picture,
    )
    if picture is not None:
        from obverse.reports.figures import check_ending

        check_ending(picture)
    from rich.console import Console

    if explain_row is not None:
        explanation = explain(settings, explain_row)
        if json_summary:
            print(json.dumps(explanation.to_json(), ensure_ascii=False, indent=1))
        else:
            explanation.render(Console(highlight=False))
        if picture is not None:
            from obverse.reports.figures import draw_explanation

            draw_explanation(explanation, picture)
            print(f"Picture: {picture}", file=sys.stderr)
        return
    # A polite kill is a Ctrl-C: what is done is put on disk and can be resumed.
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    outcome = predict(settings, watcher=_Bar())
    if json_summary:
        print(json.dumps(outcome.summary.to_json(), ensure_ascii=False, indent=1))
        return
    # The rows may be on standard output; then the summary must not be.
    console = Console(stderr=output is None, highlight=False)
    outcome.summary.render(console)
    for name, path in (("Labelled", outcome.output), ("To review", outcome.review), ("Picture", picture)):
        if path is not None:
            console.print(f"{name}: {path}", soft_wrap=True, markup=False)
    if outcome.whole_seconds is not None:
        from obverse.reports.typography import duration

        console.print(f"All rows would take about {duration(outcome.whole_seconds)}.")


def _interrupt() -> None:
    raise KeyboardInterrupt


def _labels(text: str) -> LabelSet:
    """From a file if there is one of that name, else from the text itself."""
    path = Path(text)
    try:
        is_file = path.is_file()
    except OSError:  # a long list of labels is no file name
        is_file = False
    if is_file:
        try:
            content = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot be read as UTF-8 text: {error}", where=text) from None
        # A file has one label a line, even where it has one line.
        return LabelSet.parse(content if "\n" in content.strip() else content + "\n", where=text)
    if path.suffix.lower() in (".txt", ".csv", ".tsv") and "," not in text:
        raise DataError("there is no such file of labels", where=text, mend="Write the labels, or name an existing file.")
    return LabelSet.parse(text)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise MethodError(f"{text!r} is not a list of numbers", where="--label-prior", mend='As in "0.5, 0.3, 0.2".') from None


class _Bar(Watcher):
    """A progress bar on a terminal; quiet elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._progress = None
        self._task = None

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def begin(self, done: int, total: int | None) -> None:
        if not self._console.is_terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("labelling"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=total, completed=done, rate="")

    def advance(self, texts: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, texts)
            speed = self._progress.tasks[0].speed
            self._progress.update(self._task, rate=f"{speed:,.1f} texts/s" if speed else "")

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
