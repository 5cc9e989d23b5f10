"""The head of a report, what was run and what is missing, and its table of tasks by method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from obverse.reports.blocks import Block, Piece, Table, TableCell, TableRow, Words
from obverse.reports.columns import Column, ReportedRun, chance_of, setting_names
from obverse.reports.listing import names_shortened, together
from obverse.reports.pairs import Pairing, fit_words
from obverse.reports.phrases import METRIC_NAMES, as_published, dropped_words, interval, percent, sentence_list
from obverse.reports.results import Figure, TaskFigures
from obverse.reports.run_settings import MEAN, METRICS, PublishedRow
from obverse.reports.typography import counted, one_line

_MOST_MISSING = 20


def overview_piece(runs: Sequence[ReportedRun]) -> Piece:
    blocks: list[Block] = []
    for run in runs:
        name = f"{run.name}: " if len(runs) > 1 else ""
        if not run.judged.run.is_finished:
            records = counted(len(run.judged.run.records), "record")
            warning = f"{name}This run is unfinished. All figures are of the {records} that are there so far."
            blocks.append(Words((warning,), "warning"))
        if run.judged.run.faults:
            lines = [f"{name}{counted(len(run.judged.run.faults), 'damaged line')} passed over; the rest is reported."]
            lines += [str(fault) for fault in run.judged.run.faults[:5]]
            if len(run.judged.run.faults) > 5:
                lines.append(f"and {len(run.judged.run.faults) - 5:,} more")
            blocks.append(Words(tuple(lines), "warning"))
        if run.judged.settings.faults:
            blocks.append(Words(tuple(f"{name}manifest: {fault}" for fault in run.judged.settings.faults), "warning"))
    if len(runs) > 1:
        blocks.append(Words(fit_words(runs)))
    facts = [_facts(run) for run in runs]
    if len(runs) == 1:
        blocks.append(Words(tuple(f"{name}: {what}" for name, what in facts[0].items() if what), "facts"))
    else:
        kept = [name for name in facts[0] if any(each[name] for each in facts)]
        rows = [TableRow((TableCell(name), *(TableCell(each[name]) for each in facts))) for name in kept]
        blocks.append(Table(("", *(run.name for run in runs)), tuple(rows), wraps=True))
    remarks = [list(_remarks(run)) for run in runs]
    everywhere = [line for line in remarks[0] if all(line in each for each in remarks)]
    lines = [*everywhere] if len(runs) == 1 else [f"All runs: {line}" for line in everywhere]
    lines += [
        f"{run.name}: {line}" for run, own in zip(runs, remarks, strict=True) for line in own if line not in everywhere
    ]
    if lines:
        blocks.append(Words(tuple(lines), "list"))
    claims = dict.fromkeys(claim for run in runs for claim in run.judged.settings.claims)
    if claims:
        blocks.append(Words(tuple(f"Published: {claim}" for claim in claims), "note"))
    return Piece("overview", "What was run", tuple(blocks))


def _facts(run: ReportedRun) -> dict[str, str]:
    manifest, settings = run.judged.run.manifest, run.judged.settings
    records = run.judged.run.records
    when = f"begun {_time(manifest.created)}" if manifest.created else ""
    if manifest.finished:
        when += f"{', ' if when else ''}finished {_time(manifest.finished)}"
    rules = [f"{method}: {rule}" for method, rule in settings.length_rules.items()]
    temperatures = [f"{method}: {value:g}" for method, value in settings.temperatures.items() if value != 1]
    return {
        "Suite": f"{settings.title} ({manifest.suite})" if settings.title != manifest.suite else manifest.suite,
        "Model": manifest.model,
        "Methods": "; ".join(manifest.methods),
        "Settings": "; ".join(settings.settings),
        "Answers": f"{len(records):,} to {counted(len({group.task for group in run.judged.groups}), 'task')}"
        + (f", at most {settings.limit:,} rows of each" if settings.limit else ""),
        "Demonstrations": settings.demonstrations,
        "Length rules": "; ".join(rules),
        "Temperatures": "; ".join(temperatures),
        "When": when,
        "Where": manifest.device,
        "Seeds": "; ".join(f"{name}: {seed}" for name, seed in manifest.seeds.items()),
        "Digests": f"model {manifest.model_digest[:12]}, suite {manifest.suite_digest[:12]}"
        + (f", code {manifest.revision[:12]}" if manifest.revision else ""),
        "Versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }


def _remarks(run: ReportedRun) -> Iterable[str]:
    for why, names in together(run.judged.run.manifest.missing).items():
        yield f"Missing, {why}: {names_shortened(names, _MOST_MISSING)}."
    cells = run.results.cells
    rows = sum(cell.rows for cell in cells)
    unanswered = rows - sum(cell.answered for cell in cells)
    dropped = run.results.dropped
    lost = dropped_words(dropped, run.judged.settings) if dropped else ""
    for count, what in (
        (unanswered, "have no answer, for reasons told below; those whose right answer is known count as wrong"),
        (sum(cell.shortened for cell in cells), "saw a shortened input"),
        (sum(cell.cut for cell in cells), "lost tokens to a hard limit"),
        (dropped.total(), f"lost {lost} to the model's window"),
        (sum(cell.tied for cell in cells), "chose among options of exactly the same score, the first of them"),
    ):
        if count:
            yield f"{count:,} of {rows:,} answers ({100 * count / rows:.1f} %) {what}."
    reasons: Counter[str] = Counter()
    for cell in cells:
        reasons.update(cell.reasons)
    for reason, count in reasons.most_common(8):
        yield f"No answer, {counted(count, 'time')}: {one_line(reason)}"
    for task, said in run.judged.settings.tasks.items():
        if said.note and any(group.task == task for group in run.judged.groups):
            yield f"{task}: {said.note}."
    seen = [task for task, said in run.judged.settings.tasks.items() if said.seen]
    if seen:
        yield f"Met in training by design: {sentence_list(seen)}."
    yield from run.judged.run.manifest.notes


def _time(stamp: str) -> str:
    return stamp[:16].replace("T", " ") + (" UTC" if stamp.endswith(("+00:00", "Z")) else "")


# --- the table ----------------------------------------------------------------------------------------------------


def table_piece(runs: Sequence[ReportedRun], columns: Sequence[Column], pairings: Sequence[Pairing]) -> Piece | None:
    figures = {
        (column, task.setting, task.task, task.split): task
        for column in columns
        for task in column.run.results.tasks
        if task.method == column.method
    }
    judged = [task for task in figures.values() if task.metric is not None]
    if not judged:
        words = "No answer is known to be right or wrong, so there are no figures."
        return Piece("table", "Figures by task", (Words((words,)),))
    settings = setting_names(runs)
    metrics = [name for name in METRICS if any(task.metric == name for task in judged)]
    published = _published(runs, settings, {task.task for task in judged})
    chances = any(chance_of(runs, task.task) is not None for task in judged)
    heads = ["task", *(["metric"] if len(metrics) > 1 else []), *(["chance"] if chances else [])]
    first = len(heads)
    heads += [column.name for column in columns] + [row.model for row in published]
    marks = _Marks(columns, pairings)
    rows: list[TableRow] = []
    for setting in settings:
        of_setting = [task for task in judged if task.setting == setting]
        if len(settings) > 1:
            rows.append(TableRow((TableCell(setting or "(no setting)"),), "section"))
        for task, split in dict.fromkeys((t.task, t.split) for t in of_setting):
            rows.append(
                _task_row(runs, columns, figures, marks, (setting, task, split), len(metrics) > 1, chances, published)
            )
        rows += _mean_rows(columns, marks, setting, settings, metrics, chances, published)
    splits = {task.task: {t.split for t in judged if t.task == task.task} for task in judged}
    notes = [_interval_words(judged)]
    if marks.met:
        notes.append(
            "▲ the highest of a row; △ not distinguishable from it (paired comparison, p ≥ 0.05 after Holm's "
            "correction over the tasks). Without a mark: lower, beyond chance, or not compared."
        )
    if published:
        sources = dict.fromkeys(f"{row.model}: {row.source}" for row in published if row.source)
        notes.append(
            "Figures of others, with their own prompts and templates, stand beside these and are not equal to them. "
            + "; ".join(sources)
        )
    if any(len(each) > 1 for each in splits.values()):
        notes.append("A task's split is named where there are several.")
    caption = f"{_metrics_words(metrics)}, per cent, mean over templates"
    if any(task.wordings > 1 for task in judged):
        caption += " and wordings"
    table = Table(
        tuple(heads),
        tuple(rows),
        numbers=frozenset(range(first - chances, len(heads))),
        dim=frozenset(range(first + len(columns), len(heads))),
        caption=caption,
        notes=tuple(notes),
        sortable=len(settings) == 1,
    )
    return Piece("table", "Figures by task", (table,))


def _task_row(
    runs: Sequence[ReportedRun],
    columns: Sequence[Column],
    figures: Mapping[tuple[Column, str, str, str], TaskFigures],
    marks: _Marks,
    at: tuple[str, str, str],
    with_metric: bool,
    with_chance: bool,
    published: Sequence[PublishedRow],
) -> TableRow:
    setting, task, split = at
    of_row = [figures.get((column, *at)) for column in columns]
    first = next(each for each in of_row if each is not None and each.metric is not None)
    several = len({key[3] for key in figures if key[2] == task}) > 1
    name = f"{task} ({split})" if several else task
    cells = [TableCell(name, _size(first))]
    if with_metric:
        cells.append(TableCell(METRIC_NAMES[first.metric or ""]))
    if with_chance:
        cells.append(TableCell(percent(chance_of(runs, task)), mark="dim"))
    values = [None if each is None or each.figure is None else each.figure.mean for each in of_row]
    told = marks.of(values, [None if each is None else each.metric for each in of_row], setting, task, split)
    cells += [_figure_cell(value, mark) for value, mark in zip(values, told, strict=True)]
    cells += [TableCell(as_published(row.figures.get(task)), mark="dim") for row in published]
    return TableRow(tuple(cells))


def _mean_rows(
    columns: Sequence[Column],
    marks: _Marks,
    setting: str,
    settings: Sequence[str],
    metrics: Sequence[str],
    with_chance: bool,
    published: Sequence[PublishedRow],
) -> Iterable[TableRow]:
    for metric in metrics:
        means = [
            next(
                (m for m in c.run.results.means if (m.metric, m.setting, m.method) == (metric, setting, c.method)), None
            )
            for c in columns
        ]
        there = [mean for mean in means if mean is not None]
        if not there:
            continue
        most = max(mean.tasks for mean in there)
        cells = [TableCell("mean", counted(most, "task"))]
        cells += [TableCell(METRIC_NAMES[metric])] if len(metrics) > 1 else []
        cells += [TableCell()] if with_chance else []
        values = [None if mean is None else mean.mean for mean in means]
        # Means over other tasks are not to be ranked with each other.
        alike = [
            value if mean is not None and mean.tasks == most else None
            for value, mean in zip(values, means, strict=True)
        ]
        told = marks.of(alike, [metric] * len(columns), setting, MEAN, "")
        for value, mean, mark in zip(values, means, told, strict=True):
            cell = _figure_cell(value, mark)
            if mean is not None and mean.tasks < most:
                cell = replace(cell, small=f"{cell.small}\n{counted(mean.tasks, 'task')}")
            cells.append(cell)
        for row in published:
            figure = row.figures.get(setting) if setting else None
            if figure is None and len(settings) == 1:
                figure = row.figures.get(MEAN)
            cells.append(TableCell(as_published(figure) if metric == metrics[0] else "", mark="dim"))
        yield TableRow(tuple(cells), "foot")


class _Marks:
    """Which figures of a row are the highest, or not distinguishable from it."""

    def __init__(self, columns: Sequence[Column], pairings: Sequence[Pairing]) -> None:
        self._columns = columns
        self._p: dict[tuple[Column, Column, str, str, str, str], float] = {}
        self.met = False
        for pairing in pairings:
            for c in pairing.comparisons:
                p = c.p if c.task == MEAN else c.p_holm
                if p is not None:
                    for a, b in ((pairing.a, pairing.b), (pairing.b, pairing.a)):
                        # There is a mean of each metric; a task has one comparison, perhaps by another metric.
                        self._p[a, b, c.setting, c.task, c.split, c.metric if c.task == MEAN else ""] = p

    def of(
        self, values: Sequence[Figure | None], metrics: Sequence[str | None], setting: str, task: str, split: str
    ) -> list[str]:
        marks = [""] * len(values)
        pools: dict[tuple[object, ...], list[int]] = {}
        for i, (column, value) in enumerate(zip(self._columns, values, strict=True)):
            if value is not None:
                pools.setdefault((column.run.digest(task), metrics[i]), []).append(i)
        for pool in pools.values():
            if len(pool) < 2:
                continue
            best = max(pool, key=lambda i: (values[i] or Figure(0, 0, 0)).value)
            metric = metrics[best] or "" if task == MEAN else ""
            key = (setting, task, split, metric)
            against = {i: self._p.get((self._columns[best], self._columns[i], *key)) for i in pool}
            if all(p is None for i, p in against.items() if i != best):
                continue
            self.met = True
            marks[best] = "best"
            for i, p in against.items():
                if p is not None and p >= 0.05:
                    marks[i] = "alike"
        return marks


def _figure_cell(value: Figure | None, mark: str) -> TableCell:
    return TableCell() if value is None else TableCell(percent(value.value), interval(value), mark)


def _size(task: TaskFigures) -> str:
    cells = task.templates * task.wordings
    parts = [counted(round(task.rows / cells), "row")]
    if task.templates > 1:
        parts.append(counted(task.templates, "template"))
    if task.wordings > 1:
        parts.append(counted(task.wordings, "wording"))
    return " × ".join(parts)


def _interval_words(tasks: Sequence[TaskFigures]) -> str:
    drawn = any(figure.drawn for task in tasks if (figure := task.figure) is not None)
    text = "Behind each figure its 95 % interval. "
    if drawn:
        text += (
            "With four templates or wordings and more it takes both them and the rows for samples of what could have "
            "been asked; with fewer, the rows alone. "
        )
    return text + "That of a mean holds tasks and templates fixed."


def _published(runs: Sequence[ReportedRun], settings: Sequence[str], tasks: set[str]) -> list[PublishedRow]:
    """The rows that have a figure for something that is shown, each once."""
    rows = {(row.model, row.source): row for run in runs for row in run.judged.settings.published}
    shown = {*settings, *tasks, *([MEAN] if len(settings) == 1 and len(tasks) > 1 else [])}
    return [row for row in rows.values() if shown & set(row.figures)]


def _metrics_words(metrics: Sequence[str]) -> str:
    words = sentence_list([METRIC_NAMES[name] for name in metrics])
    return words[:1].upper() + words[1:]
