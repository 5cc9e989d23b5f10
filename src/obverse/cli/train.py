"""`obverse train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_command(
    recipe: Annotated[Path, typer.Argument(help="A recipe file; the bundled model's is bundled/recipe.toml.")],
    data: Annotated[Path, typer.Option(help="Folder that holds p3/ and promptsource/.")],
    output: Annotated[Path, typer.Option(help="Run folder: log, last and best checkpoint.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    stop_after: Annotated[float | None, typer.Option(help="Stop with a checkpoint after so many minutes.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train a model from a recipe."""
    from obverse.recipes.train import train_bundled

    train_bundled(
        recipe,
        data=data,
        output=output,
        resume=resume,
        stop_after=None if stop_after is None else 60 * stop_after,
        device=device,
        say=lambda line: typer.echo(line),
    )
