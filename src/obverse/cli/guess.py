"""`obverse guess`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from obverse.errors import OutputError


def guess_command(
    input: Annotated[Path, typer.Argument(help="A .csv, .tsv, .jsonl or .parquet file of texts with their labels.")],
    label: Annotated[str, typer.Option("--label", "-l", help="Column that holds the labels.")],
    text: Annotated[
        list[str] | None, typer.Option("--text", "-t", help="Column that holds the text; may be given several times.")
    ] = None,
    rows: Annotated[
        int, typer.Option(help="Rows drawn from the file: half are guessed from, the others compare the guesses.")
    ] = 40,
    candidates: Annotated[int, typer.Option(help="Instructions that each row proposes.")] = 5,
    instruction: Annotated[
        list[str] | None,
        typer.Option("--instruction", "-i", help="One of your own, to compare with; may be given several times."),
    ] = None,
    show: Annotated[int, typer.Option(help="Work out the accuracy of the N best, and show them.", metavar="N")] = 10,
    per_row: Annotated[bool, typer.Option("--per-row", help="Also show what each row proposed.")] = False,
    model: Annotated[str, typer.Option("--model", "-m", help="obverse-mini, a folder, or a hub id.")] = "obverse-mini",
    method: Annotated[
        str | None, typer.Option(help="Method that the accuracy is by. Default: the model's own, as in predict.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws other rows.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write everything as JSON, each row's candidates too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    input_format: Annotated[
        str | None, typer.Option(help="csv, tsv, jsonl or parquet. Default: by the ending.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps. Default: the best there is.")] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load legacy .bin weights, through the weights-only reader.")
    ] = False,
) -> None:
    """Guess the instruction that labelled texts may have been labelled by."""
    from rich.text import Text

    from obverse.cli.console import paper
    from obverse.recipes.guess import GuessSettings, guess
    from obverse.recipes.output_files import refuse_unwritable, write_json

    if output is not None:
        refuse_unwritable(output)
        if output.exists() and input.exists() and output.samefile(input):
            raise OutputError("is the input itself", where=str(output), mend="Name another output file.")
    settings = GuessSettings(
        input=input,
        label=label,
        text=tuple(text or ()),
        rows=rows,
        candidates=candidates,
        instructions=tuple(instruction or ()),
        show=show,
        model=model,
        method=method,
        seed=seed,
        input_format=input_format,
        device=device,
        allow_pickle=allow_pickle,
    )
    errors = paper(stderr=True)
    with errors.status("") as status:
        report = guess(
            settings,
            note=lambda line: errors.print(line, markup=False, soft_wrap=True),
            progress=lambda what, done, total: status.update(
                Text(f"{what}: {done:,}" + (f" of {total:,}" if total else "") if done or total else what)
            ),
        )
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False, indent=1))
    else:
        report.render(paper(), per_row=per_row)
    if output is not None:
        write_json(output, report.to_json())
        print(f"Report: {output}", file=sys.stderr)
