"""`obverse audit`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from obverse.cli.predict import read_labels, terminable
from obverse.errors import MethodError
from obverse.tasks.labels import LabelSet


def audit_command(
    input: Annotated[
        Path,
        typer.Argument(help="A .csv, .tsv, .jsonl or .parquet file, a task file (.toml), or - for standard input."),
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            "-l",
            help="Your labels, as in predict: with commas between, each perhaps with a description (praise: thanks "
            "us, complaint); or a file with one a line.",
        ),
    ] = None,
    gold: Annotated[
        str | None, typer.Option(help="Column with the right labels. With it a way of asking is recommended.")
    ] = None,
    instruction: Annotated[
        list[str] | None,
        typer.Option(
            "--instruction", "-i", help="What is to be decided; may be given several times, the first is yours."
        ),
    ] = None,
    wording: Annotated[
        list[str] | None,
        typer.Option(
            "--wording",
            "-w",
            help='Other words for the labels, in their order ("great, awful"); may be given several times.',
        ),
    ] = None,
    substitutes: Annotated[
        int, typer.Option(help="So many further wordings at most from the lists that come with Obverse.")
    ] = 4,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare these (direct, flipped); the first is yours. Default: all that suit the model, its own first."
        ),
    ] = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option(help="Compare these; the first is yours. Default: none, contextual and batch."),
    ] = None,
    rows: Annotated[int, typer.Option(help="So many rows are drawn from the file.")] = 300,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", "--text-column", "-t", help="Column that holds the text; may be given several times."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("audit.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a page that exists.")] = False,
    seed: Annotated[int, typer.Option(help="Another seed draws other rows and other halves.")] = 0,
    model: Annotated[str, typer.Option("--model", "-m", help="obverse-mini, a folder, or a hub id.")] = "obverse-mini",
    split: Annotated[
        str | None, typer.Option(help="Which table of a task file. Default: test, else validation, else the only one.")
    ] = None,
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
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load legacy .bin weights, through the weights-only reader.")
    ] = False,
) -> None:
    """See how much your labels hang on words, method and calibration, and which to take."""
    from obverse.cli.console import paper
    from obverse.cli.names import names_in
    from obverse.cli.progress import ProgressBar
    from obverse.recipes.audit import AuditSettings, audit
    from obverse.recipes.predict_task import PredictSettings

    if resume and overwrite:
        raise MethodError(
            "--resume and --overwrite exclude each other", mend="--resume goes on, --overwrite begins anew."
        )
    instructions = instruction or []
    settings = AuditSettings(
        asked=PredictSettings(
            input=input,
            output=output,
            labels=None if labels is None else read_labels(labels),
            instruction=instructions[0] if instructions else None,
            text=tuple(text or ()),
            gold=gold,
            input_format=input_format,
            model=model,
            eos=eos,
            truncation=truncation,
            allow_pickle=allow_pickle,
            device=device,
            skip_blank=True,
            resume=resume,
            overwrite=overwrite,
            split=split,
        ),
        instructions=tuple(instructions[1:]),
        wordings=tuple(LabelSet.parse(each, where="--wording") for each in wording or ()),
        methods=tuple(dict.fromkeys(names_in("--method", method))),
        calibrations=tuple(dict.fromkeys(names_in("--calibration", calibration))),
        rows=rows,
        substitutes=substitutes,
        seed=seed,
    )
    with terminable():
        report = audit(settings, watcher=ProgressBar())
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False, indent=1))
    else:
        report.render(paper())
    print(f"Page: {output}", file=sys.stderr if as_json else sys.stdout)
