"""`obverse convert` and `obverse export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert_command(
    source: Annotated[str, typer.Argument(help="A model folder or hub id with legacy .bin weights.")],
    target: Annotated[Path, typer.Argument(help="A new folder for the safe copy.")],
) -> None:
    """Make a safetensors copy of a model with pickled weights, read through the weights-only unpickler."""
    from obverse.models.checkpoints import convert

    convert(source, target)
    typer.echo(f"Converted: {target}")


def export_command(
    target: Annotated[Path, typer.Argument(help="A new folder.")],
) -> None:
    """Write the bundled model as a plain transformers folder (fp32, safetensors)."""
    from obverse.models.bundled import FOLDER, export

    export(FOLDER, target)
    typer.echo(f"Exported: {target}")
