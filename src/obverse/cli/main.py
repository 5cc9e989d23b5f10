"""`obverse`: the commands, and what becomes of their errors."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable

import typer

from obverse import __version__
from obverse.cli.audit import audit_command
from obverse.cli.check import check_command
from obverse.cli.convert import convert_command, export_command
from obverse.cli.demos import demos_build_command, demos_show_command
from obverse.cli.evaluate import evaluate_command
from obverse.cli.guess import guess_command
from obverse.cli.leaks import leaks_command
from obverse.cli.list import list_command
from obverse.cli.places import refuse_impossible
from obverse.cli.predict import predict_command
from obverse.cli.report import report_command
from obverse.cli.show import show_command
from obverse.cli.train import train_command
from obverse.errors import ObverseError

app = typer.Typer(
    name="obverse",
    help="Label texts with labels made up a minute ago, and know how far to trust them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"obverse {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", help="Print the version and leave.", callback=_version, is_eager=True
    ),
) -> None:
    pass


def _told(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its errors told in plain words: bad input and stopped runs end with exit code 2."""

    # Inside the command, because typer has endings of its own for an interrupt and a closed pipe.
    @functools.wraps(command)
    def told(*args: object, **options: object) -> None:
        try:
            refuse_impossible(command, options)
            command(*args, **options)
            sys.stdout.flush()
        except ObverseError as error:
            sys.stdout.flush()
            print(f"obverse: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except BrokenPipeError:
            # The reader of standard output has gone (`| head`): leave quietly, and keep Python from complaining at
            # exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        except KeyboardInterrupt:
            print("obverse: stopped", file=sys.stderr)
            raise SystemExit(2) from None

    return told


app.command("predict", no_args_is_help=True)(_told(predict_command))
app.command("audit", no_args_is_help=True)(_told(audit_command))
app.command("evaluate", no_args_is_help=True)(_told(evaluate_command))
app.command("report", no_args_is_help=True)(_told(report_command))
app.command("guess", no_args_is_help=True)(_told(guess_command))
app.command("list")(_told(list_command))
app.command("show", no_args_is_help=True)(_told(show_command))
app.command("check")(_told(check_command))
app.command("leaks", no_args_is_help=True)(_told(leaks_command))
app.command("convert", no_args_is_help=True)(_told(convert_command))
app.command("export", no_args_is_help=True)(_told(export_command))
app.command("train", no_args_is_help=True)(_told(train_command))

demos = typer.Typer(
    name="demos",
    help="Demonstrations of other tasks, for predict --demos.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
demos.command("build")(_told(demos_build_command))
demos.command("show")(_told(demos_show_command))
app.add_typer(demos)


def main() -> None:
    """Run the command line."""
    # The message of an error may hold any character of the user's file; a narrow terminal encoding must not turn it
    # into a second error.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app()


if __name__ == "__main__":
    main()
