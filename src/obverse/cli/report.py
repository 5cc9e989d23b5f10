"""`obverse report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def report_command(
    runs: Annotated[list[Path], typer.Argument(help="Folders that obverse evaluate wrote.", metavar="RUN..")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, one HTML file.")] = Path("report.html"),
    data: Annotated[
        Path | None,
        typer.Option(envvar="OBVERSE_DATA", help="Data folder: shows the texts of instances that methods differ on."),
    ] = None,
    pieces: Annotated[
        Path | None, typer.Option(help="Also write each part as a picture (PNG) and as Markdown into this folder.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Of every bootstrap.", min=100)] = 1000,
) -> None:
    """Make a page of one or more evaluations: tables, spreads, calibration, paired comparisons."""
    from rich.text import Text

    from obverse.cli.console import paper
    from obverse.recipes.report import ReportSettings, report

    errors = paper(stderr=True)
    with errors.status("") as status:
        settings = ReportSettings(tuple(runs), output, data, pieces, resamples)
        written = report(settings, progress=lambda what: status.update(Text(what)))
    for note in written.notes:
        print(note, file=sys.stderr)
    print(f"Report: {written.output}", file=sys.stderr)
    if pieces is not None:
        print(f"Pieces: {len(written.pieces)} files in {pieces}", file=sys.stderr)
