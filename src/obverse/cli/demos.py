"""`obverse demos build` and `obverse demos show`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def demos_build_command(
    data: Annotated[Path | None, typer.Option(envvar="OBVERSE_DATA", help="Folder that holds superni/.")] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="How many demonstrations.")] = 8,
    seed: Annotated[int, typer.Option(help="Another seed draws other tasks and instances.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .toml or .json file. Default: TOML on standard output.")
    ] = None,
    no_answer_in_definition: Annotated[
        bool, typer.Option("--no-answer-in-definition", help="The definition need not name the answers.")
    ] = False,
    most_tokens: Annotated[int, typer.Option(help="A demonstration is no longer.")] = 256,
    no_distinct_answers: Annotated[
        bool, typer.Option("--no-distinct-answers", help="Two demonstrations may share an answer.")
    ] = False,
    allow_abusive: Annotated[
        bool, typer.Option("--allow-abusive", help="Texts are not checked for abusive language.")
    ] = False,
    order: Annotated[str, typer.Option(help="choices (fewest answer choices first) or drawn.")] = "choices",
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Its tokenizer counts tokens. Default: a quarter of the bytes."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
) -> None:
    """Build a set of demonstrations from the training tasks of Super-NaturalInstructions."""
    from obverse.recipes.demos import DemosSettings, build_demos, built_lines, built_toml

    if output is not None and str(output) == "-":
        output = None
    built = build_demos(
        DemosSettings(
            data=data,
            k=k,
            seed=seed,
            output=output,
            overwrite=overwrite,
            answer_in_definition=not no_answer_in_definition,
            most_tokens=most_tokens,
            distinct_answers=not no_distinct_answers,
            allow_abusive=allow_abusive,
            order=order,
            model=model,
        )
    )
    for line in built_lines(built):
        print(line, file=sys.stderr)
    if output is None:
        print(built_toml(built), end="")
    else:
        print(f"Demonstrations: {output}", file=sys.stderr)


def demos_show_command(
    name: Annotated[str, typer.Argument(help="default, or a .toml or .json file.")] = "default",
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Its tokenizer counts tokens. Default: a quarter of the bytes."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a set of demonstrations as it stands in front of a prompt, with token counts."""
    from obverse.recipes.demos import show_demos

    shown = show_demos(name, model=model)
    if as_json:
        print(json.dumps(shown.to_json(), ensure_ascii=False, indent=1))
    else:
        print("\n".join(shown.lines()))
