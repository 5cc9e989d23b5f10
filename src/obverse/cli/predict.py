"""`obverse predict`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from obverse.errors import DataError, MethodError, OutputError
from obverse.tasks.labels import LabelSet


def predict_command(
    input: Annotated[
        Path,
        typer.Argument(
            help="A .csv, .tsv, .jsonl or .parquet file, a task file (.toml), or - for lines on standard input."
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            "-l",
            help="Labels with commas between, each perhaps with a description (praise: thanks us, complaint); "
            "or a file with one a line.",
        ),
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Option(
            "--instruction",
            "-i",
            help="What is to be decided; {column} puts a column there. Without it one is built from the labels.",
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", "-t", help="Column that holds the text; may be given several times.")
    ] = None,
    demos: Annotated[
        str | None,
        typer.Option(
            help="Demonstrations of other tasks in front of each prompt: default, or a .toml or .json file.",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which table of a task file. Default: test, else validation, else the only one.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Labelled table; its ending chooses the format. Default: standard output."),
    ] = None,
    gold: Annotated[
        str | None, typer.Option(help="Column with the right labels: prints accuracy, macro-F1 and confusion.")
    ] = None,
    options_column: Annotated[
        str | None, typer.Option(help="Column with each row's own options (a JSON list, or ||| between).")
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="obverse-mini, a folder, or a hub id.")] = "obverse-mini",
    method: Annotated[
        str | None, typer.Option(help="direct, channel, flipped, pmi, product or blend. Default: the model's own.")
    ] = None,
    length_rule: Annotated[str | None, typer.Option(help="sum, token or byte. Default: the model's own.")] = None,
    calibration: Annotated[str, typer.Option(help="none, contextual, batch, contextual-log or batch-log.")] = "none",
    batch_rows: Annotated[int, typer.Option(help="Texts that batch calibration estimates its bias on.")] = 1000,
    label_prior: Annotated[
        str | None, typer.Option(help='How frequent each label is expected to be ("0.5, 0.3, 0.2").')
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the softmax over labels. Default: the one kept with the model.")
    ] = None,
    min_confidence: Annotated[float, typer.Option(help="Below it the label stays empty and is counted.")] = 0.0,
    review: Annotated[
        int, typer.Option(help="Write the K least sure rows to a second file, OUT.review.csv.", metavar="K")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(help="Label the first N rows only, and say how long all would take.", metavar="N")
    ] = None,
    explain_row: Annotated[
        int | None,
        typer.Option(
            "--explain", help="Show for row N which words of the instruction spoke for which label.", metavar="N"
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the summary (or the explanation) to a .png, .svg or .pdf file.")
    ] = None,
    json_summary: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    skip_blank: Annotated[
        bool, typer.Option("--skip-blank", help="Leave the label of rows without text empty.")
    ] = False,
    input_format: Annotated[
        str | None, typer.Option(help="csv, tsv, jsonl, parquet or lines. Default: by the ending.")
    ] = None,
    eos: Annotated[
        str | None, typer.Option(help="End-of-sequence preset: t0, flipped, lm-eval or own. Default: by the model.")
    ] = None,
    truncation: Annotated[
        str | None, typer.Option(help="fields (the longest text is shortened) or reference (cut from the right).")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps. Default: the best there is.")] = None,
    memory_limit: Annotated[
        str | None, typer.Option(help="What batches may take beyond the weights: 512MB, 2GB. Default: no limit.")
    ] = None,
    number_type: Annotated[
        str | None, typer.Option(help="Of the weights: fp32, bf16 or int8. Default: exact, as the device can.")
    ] = None,
    plan: Annotated[
        str, typer.Option(help="shared (no work is done twice) or naive (each query alone, to compare).")
    ] = "shared",
    explain_plan: Annotated[
        bool, typer.Option("--explain-plan", help="Tell tokens asked and computed, time and memory.")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load legacy .bin weights, through the weights-only reader.")
    ] = False,
) -> None:
    """Label every text of a table with labels the model has never seen."""
    # Imported here: `obverse --version` and `--help` need no numpy.
    from rich.console import Console

    from obverse.cli.progress import ProgressBar
    from obverse.recipes.engine import EngineSettings
    from obverse.recipes.predict import explain, predict
    from obverse.recipes.predict_task import PredictSettings

    if output is not None and str(output) == "-":
        output = None
    if resume and overwrite:
        raise MethodError(
            "--resume and --overwrite exclude each other", mend="--resume goes on, --overwrite begins anew."
        )
    if explain_row is not None and (output is not None or review):
        raise OutputError(
            "shows one row and writes no table", where="--explain", mend="Leave out --output and --review."
        )
    if json_summary and output is None and explain_row is None:
        raise OutputError(
            "needs --output: rows and summary cannot share standard output", where="--json", mend="Add --output FILE."
        )
    settings = PredictSettings(
        input=input,
        output=output,
        labels=None if labels is None else read_labels(labels),
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
        split=split,
        demos=demos,
        engine=EngineSettings(plan, memory_limit, explain_plan, number_type),
    )
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
    with terminable():
        outcome = predict(settings, watcher=ProgressBar())
    if json_summary:
        print(json.dumps(outcome.summary.to_json(), ensure_ascii=False, indent=1))
        return
    # The rows may be on standard output; then the summary must not be.
    console = Console(stderr=output is None, highlight=False)
    outcome.summary.render(console)
    for name, path in (("Labelled", outcome.output), ("To review", outcome.review), ("Picture", picture)):
        if path is not None:
            console.print(f"{name}: {path}", soft_wrap=True, markup=False)
    for line in outcome.work:
        console.print(line, soft_wrap=True, markup=False)
    if outcome.whole_seconds is not None:
        from obverse.reports.typography import duration

        console.print(f"All rows would take about {duration(outcome.whole_seconds)}.")


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """A polite kill is a Ctrl-C here: what is done is put on disk and can be resumed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def read_labels(text: str) -> LabelSet:
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
        return LabelSet.parse(content, where=text)
    looks_like_a_file = path.suffix.lower() in (".txt", ".csv", ".tsv") or os.sep in text
    if looks_like_a_file and not set(text) & {",", "\n"}:
        raise DataError(
            "there is no such file of labels",
            where=text,
            mend="Name an existing file, or write labels with commas between.",
        )
    return LabelSet.parse(text)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise MethodError(
            f"{text!r} is not a list of numbers", where="--label-prior", mend='As in "0.5, 0.3, 0.2".'
        ) from None
