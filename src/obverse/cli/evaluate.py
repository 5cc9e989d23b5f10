"""`obverse evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from obverse.cli.predict import terminable


def evaluate_command(
    suite: Annotated[
        str,
        typer.Argument(help="t0-heldout or another suite, a suite file, or task files (.toml) with commas between."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run: manifest, records, results.")],
    model: Annotated[str, typer.Option("--model", "-m", help="obverse-mini, a folder, or a hub id.")] = "obverse-mini",
    data: Annotated[
        Path | None, typer.Option(envvar="OBVERSE_DATA", help="Folder that holds p3/, superni/, bigbench/, bbh/.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="One or several with commas between: direct, channel, flipped, pmi, product, blend. "
            "Default: the model's own."
        ),
    ] = None,
    calibration: Annotated[
        str,
        typer.Option(help="One or several with commas between: none, contextual, batch, contextual-log, batch-log."),
    ] = "none",
    tasks: Annotated[
        str | None, typer.Option(help='Tasks of the suite with commas between; "anli/*" stands for several.')
    ] = None,
    templates: Annotated[
        list[str] | None, typer.Option(help="A template's name; may be given several times. Default: all of the suite.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Rows of each task, drawn by the seed; the same in every cell.", metavar="N")
    ] = None,
    demos: Annotated[
        str | None, typer.Option(help="Demonstrations of other tasks in front of prompts: default, or a file.")
    ] = None,
    length_rule: Annotated[str | None, typer.Option(help="sum, token or byte. Default: the model's own.")] = None,
    batch_size: Annotated[
        int, typer.Option(help="The most rows asked and written at a time; the first few come sooner.", metavar="N")
    ] = 256,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    allow_trained: Annotated[
        bool, typer.Option("--allow-trained", help="Also tasks that the model says it was trained on.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of rows drawn, exemplars, layouts, symbols, templates' choices.")] = 0,
    store: Annotated[
        Path | None, typer.Option(help="Folder of the store of scores. Default: .scores beside the run's folder.")
    ] = None,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="Neither take scores from a store nor keep them.")
    ] = False,
    cutting: Annotated[
        str | None,
        typer.Option(help="How templates are cut: segments or flipped-reference. Default: by the model."),
    ] = None,
    eos: Annotated[
        str | None, typer.Option(help="End-of-sequence preset: t0, flipped, lm-eval or own. Default: by the model.")
    ] = None,
    truncation: Annotated[
        str | None, typer.Option(help="fields (the longest text is shortened) or reference (cut from the right).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
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
    """Evaluate a model on a suite of tasks, with a record of every answer."""
    from obverse.cli.console import paper
    from obverse.cli.evaluation_bar import EvaluationBar
    from obverse.cli.names import names_in
    from obverse.recipes.engine import EngineSettings
    from obverse.recipes.evaluate import EvaluateSettings, evaluate_suite

    with terminable():
        report = evaluate_suite(
            EvaluateSettings(
                suite=suite,
                output=output,
                model=model,
                data=data,
                methods=names_in("--method", method),
                calibrations=names_in("--calibration", calibration),
                tasks=names_in("--tasks", tasks),
                templates=tuple(templates or ()),
                limit=limit,
                demos=demos,
                length_rule=length_rule,
                batch_size=batch_size,
                resume=resume,
                allow_trained=allow_trained,
                seed=seed,
                store=store,
                keep_scores=not no_store,
                cutting=cutting,
                device=device,
                eos=eos,
                truncation=truncation,
                allow_pickle=allow_pickle,
                engine=EngineSettings(plan, memory_limit, explain_plan, number_type),
            ),
            watcher=EvaluationBar(),
        )
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False, indent=1))
        return
    console = paper()
    report.render(console)
    console.print(f"Run: {output}", markup=False, soft_wrap=True)
