"""The page of `obverse audit`: one HTML file that needs no network and runs no script.

Every text of the user goes through Jinja's escaping; colours follow the reader's light or dark scheme, and the page
prints. Charts are boxes and dots placed by percentages, so that their words stay words on a telephone too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, StrictUndefined

from obverse.metrics.intervals import Interval
from obverse.reports.audit import (
    FACTOR_NOUNS,
    AuditReport,
    hits_text,
    verdict,
)
from obverse.reports.phrases import p_words, whole_between, whole_percent, whole_points, whole_points_between
from obverse.reports.typography import collapsed, counted, one_line, shorten

_MOST_SHARES = 12
_EXPLAINED = {
    "direct": "how likely is the label after text and instruction?",
    "channel": "how likely are text and instruction after the label?",
    "flipped": "how likely is the instruction after text and label?",
    "pmi": "how much does the text add to the label?",
    "product": "direct and flipped together",
    "blend": "direct and flipped, and how alike text and label are",
    "none": "labels as the model gives them",
    "contextual": "takes away what the model prefers where there is no text",
    "contextual-log": "the same with the mean of the logarithms",
    "batch": "takes away what the model prefers over all rows: draws the labels towards equal numbers",
    "batch-log": "the same with the mean of the logarithms",
}
_TEXT_CELLS = 600


def audit_page(report: AuditReport, wordings: Sequence[Sequence[str]]) -> str:
    """The whole page.

    Args:
        wordings: what the model reads for each label in each wording, descriptions included; for the command.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        percent=whole_percent,
        between=whole_between,
        points=whole_points,
        points_between=whole_points_between,
        p=p_words,
        line=one_line,
        hits=hits_text,
        verdict=verdict,
    )
    environment.globals.update(counted=counted, nouns=FACTOR_NOUNS, explained=_EXPLAINED)
    gold = report.trial is not None
    place = report.recommended
    return environment.from_string(_PAGE).render(
        report=report,
        style=_STYLE,
        answers=report.answers(),
        gold=gold,
        place=place,
        command=report.command(place, wordings[place[0]]),
        strips=_strips(report),
        axis=_axis(report),
        shares=_shares(report) if len(report.labels) <= _MOST_SHARES else [],
        touchy=_touchy(report),
        widest=max([0.01, *(f.changes or 0 for f in report.factors), *(f.moves or 0 for f in report.factors)]),
        way=lambda at: {
            "wording": report.level(at, 0).name,
            "instruction": report.instruction(at),
            "method": report.level(at, 2).name,
            "calibration": report.level(at, 3).name,
        },
        order=sorted(report.variants, key=lambda v: (-(v.hits.right if v.hits else v.with_most), v.place)),
    )


@dataclass(frozen=True, slots=True)
class _Dot:
    """A way on the strip of its method: where it stands in per cent of the width, and what it is called."""

    left: float
    title: str
    is_own: bool
    is_recommended: bool


@dataclass(frozen=True, slots=True)
class _Strip:
    name: str
    dots: tuple[_Dot, ...]
    low: float
    high: float
    mean: float


def _ends(report: AuditReport) -> tuple[float, float]:
    """The chart's ends: tenths around all figures."""
    figures = [variant.hits.accuracy if variant.hits else variant.with_most for variant in report.variants]
    low, high = math.floor(10 * min(figures) + 1e-9) / 10, math.ceil(10 * max(figures) - 1e-9) / 10
    return (max(0.0, low - 0.1), high) if low == high else (low, high)


def _left(report: AuditReport, value: float) -> float:
    low, high = _ends(report)
    return round(100 * (value - low) / (high - low), 2)


def _axis(report: AuditReport) -> list[tuple[float, str]]:
    low, high = _ends(report)
    step = 0.2 if high - low > 0.55 else 0.1
    ticks = [low + step * i for i in range(round((high - low) / step) + 1)]
    return [(_left(report, tick), f"{100 * tick:.0f} %") for tick in ticks if tick <= high + 1e-9]


def _strips(report: AuditReport) -> list[_Strip]:
    """For each method and calibration its ways as dots."""
    strips = []
    for m, method in enumerate(report.factors[2].levels):
        for c, calibration in enumerate(report.factors[3].levels):
            some = [v for v in report.variants if v.place[2:] == (m, c)]
            values = [v.hits.accuracy if v.hits else v.with_most for v in some]
            dots = tuple(
                _Dot(
                    _left(report, value),
                    f"{whole_percent(value)}: {collapsed(report.level(v.place, 0).name)} | "
                    f"{collapsed(report.instruction(v.place))}",
                    v.place == report.own.place,
                    v.place == report.recommended,
                )
                for v, value in zip(some, values, strict=True)
            )
            name = method.name if calibration.name == "none" else f"{method.name}, {calibration.name}"
            mean = math.fsum(values) / len(values)
            strips.append(
                _Strip(name, dots, _left(report, min(values)), _left(report, max(values)), _left(report, mean))
            )
    return strips


def _shares(report: AuditReport) -> list[dict[str, Any]]:
    """For each label its share by the user's own way, and the least and most that any way gives it."""
    total = sum(report.gold_counts)
    rows = []
    for k, label in enumerate(report.labels):
        values = [variant.shares[k] for variant in report.variants]
        rows.append(
            {
                "label": label,
                "own": report.own.shares[k],
                "span": Interval(min(values), max(values)),
                "gold": report.gold_counts[k] / total if total else None,
            }
        )
    return rows


def _touchy(report: AuditReport) -> list[dict[str, Any]]:
    found = []
    for row in report.touchy:
        total = sum(row.votes)
        order = sorted((k for k, votes in enumerate(row.votes) if votes), key=lambda k: -row.votes[k])
        found.append(
            {
                "where": row.where,
                "text": shorten(collapsed(row.text), _TEXT_CELLS),
                "votes": [(report.labels[k], row.votes[k], round(100 * row.votes[k] / total, 2), k % 7) for k in order],
                "own": report.labels[row.own],
                "gold": None if row.gold is None else report.labels[row.gold],
            }
        )
    return found


_STYLE = """
:root { color-scheme: light dark; --page: #fbfbf9; --card: #ffffff; --ink: #1f2328; --soft: #5b636c; --line: #d9dce0;
  --blue: #0072b2; --red: #c44e00; --wash: #e8f1f8; --k0: #0072b2; --k1: #e69f00; --k2: #009e73; --k3: #cc79a7;
  --k4: #56b4e9; --k5: #d55e00; --k6: #8a8a8a; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --ink: #e6e8ea; --soft: #a3abb3;
  --line: #383e45; --blue: #6cb8ea; --red: #ff9a57; --wash: #1d2c38; --k0: #4a9fd8; --k1: #e6ad33; --k2: #2fbf95;
  --k3: #d792b8; --k4: #9cd4f5; --k5: #f0864a; --k6: #a5a5a5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0 0 .2rem; }
p { margin: .3rem 0 .7rem; max-width: 46rem; }
.soft { color: var(--soft); }
.answers { display: grid; gap: .75rem; margin: 1.2rem 0; }
.answer { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; }
.answer:first-child { background: var(--wash); border-color: var(--blue); font-size: 1.08rem; }
.answer p { margin: 0; max-width: none; }
.box { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--card); margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .7rem; border-top: 1px solid var(--line);
  overflow-wrap: break-word; }
thead th { border-top: 0; color: var(--soft); font-weight: 600; vertical-align: bottom; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n { white-space: nowrap; }
td.words { min-width: 13rem; overflow-wrap: anywhere; }
td.short, th[scope] { white-space: nowrap; }
tr.own td { background: var(--wash); }
.bar { display: inline-block; height: .6rem; background: var(--blue); border-radius: 2px; vertical-align: middle;
  margin-right: .4rem; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.tag { color: var(--soft); font-size: .85em; }
.chart { padding: .8rem 1rem .6rem; }
.strip { display: grid; grid-template-columns: 9.5rem 1fr; gap: .6rem; align-items: center; min-height: 1.7rem; }
.strip .name { font-size: .88rem; text-align: right; color: var(--ink); }
.track { position: relative; height: 1.4rem; margin: 0 .5rem; border-bottom: 1px solid var(--line); }
.dot, .mean, .tick { position: absolute; }
.dot { width: .62rem; height: .62rem; margin-left: -.31rem; top: .36rem; border-radius: 50%; background: var(--blue);
  opacity: .4; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.dot.own { background: var(--card); border: .17rem solid var(--ink); opacity: 1; width: .85rem; height: .85rem;
  margin-left: -.425rem; top: .24rem; z-index: 2; }
.dot.take { background: var(--red); opacity: 1; width: .85rem; height: .85rem; margin-left: -.425rem; top: .24rem;
  z-index: 3; }
.dot.own.take { border-color: var(--red); background: var(--card); }
.mean { width: 2px; height: 1.1rem; top: .12rem; margin-left: -1px; background: var(--ink); z-index: 1;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.axis .track { border: 0; height: 1.2rem; }
.tick { transform: translateX(-50%); font-size: .8rem; color: var(--soft); white-space: nowrap; }
.key { font-size: .88rem; color: var(--soft); margin: .5rem 0 0; }
.key span, .key .dot { display: inline-block; position: static; margin: 0 .25rem 0 .8rem; vertical-align: -1px; }
.key .dot:first-child { margin-left: 0; }
.key .mean { height: .9rem; }
.votes { display: flex; height: .7rem; border-radius: 3px; overflow: hidden; margin: .35rem 0 .25rem; }
.votes i, .swatch { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.swatch { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px; margin-right: .3rem; }
.k0 { background: var(--k0); } .k1 { background: var(--k1); } .k2 { background: var(--k2); }
.k3 { background: var(--k3); } .k4 { background: var(--k4); } .k5 { background: var(--k5); }
.k6 { background: var(--k6); }
.row { border-top: 1px solid var(--line); padding: .7rem 1rem; }
.row:first-child { border-top: 0; }
.row p { margin: 0; max-width: none; }
.row .said { font-size: .88rem; }
.row .said span { margin-right: .9rem; white-space: nowrap; }
pre { margin: 0; padding: .8rem 1rem; white-space: pre-wrap; font: .88rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas,
  "DejaVu Sans Mono", monospace; }
summary { cursor: pointer; font-weight: 600; margin: 1.6rem 0 .4rem; }
dt { font-weight: 600; margin-top: .6rem; }
dd { margin: 0 0 0 1rem; max-width: 46rem; }
@media (max-width: 40rem) { main { padding: 1rem .7rem 3rem; } .strip { grid-template-columns: 6.2rem 1fr; gap: .3rem; }
  .strip .name { font-size: .78rem; } h1 { font-size: 1.35rem; } }
@media print { :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb;
  --blue: #0072b2; --red: #c44e00; --wash: #f2f6fa; --k0: #0072b2; --k1: #e69f00; --k2: #009e73; --k3: #cc79a7;
  --k4: #56b4e9; --k5: #d55e00; --k6: #8a8a8a; } body { font-size: 10.5pt; } .answer, .row, tr, .strip
  { break-inside: avoid; } h2 { break-after: avoid; } main { max-width: none; padding: 0; }
  .box { overflow: visible; } }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
form-action 'none'">
<meta name="referrer" content="no-referrer">
<title>Audit of {{ report.source }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
<main>
<h1>How much do these labels hang on the way of asking?</h1>
<p class="soft">{{ counted(report.rows, "row") }} of {{ report.source }}
{%- if report.rows_in_file > report.rows %} (drawn from {{ "{:,}".format(report.rows_in_file) }}){% endif %},
labelled {{ report.labels | map("line") | join(", ") }} by {{ report.model | line }}, in
{{ counted(report.variants | length, "way") }}: {{ counted(report.factors[0].levels | length, "wording") }} of the
labels, {{ counted(report.factors[1].levels | length, "instruction") }},
{{ counted(report.factors[2].levels | length, "method") }},
{{ counted(report.factors[3].levels | length, "calibration") }}.
{% if gold %}Right answers are in the column {{ report.gold | line }}.{% else %}The rows bring no right answers.
{% endif %}
</p>

<div class="answers">
{% for question, answer in answers %}
<section class="answer"><h3>{{ question }}</h3><p>{{ answer }}</p></section>
{% endfor %}
</div>

<h2>{{ "The way to take" if place != report.own.place else "Your way" }}</h2>
<div class="box"><table>
{% for name, what in way(place).items() %}
<tr><th scope="row">{{ name }}</th><td class="words">{{ what }}
{%- if loop.index0 in (0, 1) %} <span class="tag">({{ report.level(place, loop.index0).from_where }})</span>{% endif %}
</td></tr>
{% endfor %}
</table></div>
{% if command %}
<p>This labels the whole table so
{%- if place[0] %}; the rows then carry the new words (a task file gives a label a name and other words to read)
{%- endif %}:</p>
<div class="box"><pre>{{ command }}</pre></div>
{% else %}
<p>To label the whole table so, put the labels into a file, one a line, and name it with <code>--labels</code>.</p>
{% endif %}

<h2>What each thing does by itself</h2>
<p>One thing is changed and the others stay.
{% if gold %}“Labels that change” counts the rows that get another label. “Accuracy moves” is the distance from the
worst to the best, in points: the mean over all that the others can be. With more to choose from the distance
grows by itself.
{% else %}“Labels that change” counts the rows that get another label.{% endif %}</p>
<div class="box"><table>
<thead><tr><th>what changes</th><th class="n">ways</th><th>labels that change</th>
{% if gold %}<th>accuracy moves</th><th>best, if only this changes</th><th class="n">against yours, on other rows</th>
{% endif %}</tr></thead>
{% for factor in report.factors %}
<tr><td class="short">{{ nouns[factor.name] }}</td><td class="n">{{ factor.levels | length }}</td>
<td class="short">{% if factor.changes is none %}–{% else %}
<span class="bar" style="width:{{ (3.5 * factor.changes / widest) | round(2) }}rem"></span>
{{- factor.changes | percent }}{% endif %}</td>
{% if gold %}
<td class="short">{% if factor.moves is none %}–{% else %}
<span class="bar" style="width:{{ (3.5 * factor.moves / widest) | round(2) }}rem"></span>
{{- (factor.moves | points).lstrip("+") }}{% endif %}</td>
{% if factor.alone %}
<td class="words">{{ way(factor.alone.place)[factor.name] }}</td>
<td class="n">{{ factor.alone.difference.difference | points }}
({{ factor.alone.difference.interval | points_between }})<br>
{% for part in (factor.alone | verdict).split(", ") %}{{ part }}{{ "," if not loop.last }}<br>{% endfor %}</td>
{% else %}<td>–</td><td class="n">–</td>{% endif %}
{% endif %}
</tr>
{% endfor %}
</table></div>

<h2>Every way of asking, by method</h2>
<p>A dot is one wording under one instruction;
{{ "how far right it stands is the share of rows it labels right." if gold else
"how far right it stands is the share of rows to which it gives the label that most ways give." }}
Dots far apart mean that the method hangs on words; dots close together that it does not.</p>
<div class="box chart">
{% for strip in strips %}
<div class="strip"><span class="name">{{ strip.name }}</span><div class="track">
{% for dot in strip.dots %}
<span class="dot{{ " own" if dot.is_own }}{{ " take" if dot.is_recommended and not dot.is_own }}" \
style="left:{{ dot.left }}%" title="{{ dot.title }}"></span>
{% endfor %}
<span class="mean" style="left:{{ strip.mean }}%"></span></div></div>
{% endfor %}
<div class="strip axis"><span></span><div class="track">
{% for left, text in axis %}<span class="tick" style="left:{{ left }}%">{{ text }}</span>{% endfor %}
</div></div>
<p class="key"><span class="dot own"></span>yours{% if place != report.own.place %}
<span class="dot take"></span>the way to take{% endif %}
<span class="dot"></span>another<span class="mean"></span>mean</p>
</div>
<div class="box"><table>
<thead><tr><th>method</th>{% if gold %}<th class="n">right, over all words</th>{% endif %}
<th class="n">labels kept when words change</th><th class="n">its most frequent label</th></tr></thead>
{% for method in report.methods %}
<tr{% if loop.first %} class="own"{% endif %}><td>{{ method.name }}{{ " " if loop.first }}{% if loop.first %}
<span class="tag">(yours)</span>{% endif %}</td>
{% if gold %}<td class="n">{{ method.accuracy | percent }} ({{ method.accuracy_interval | between }})</td>{% endif %}
<td class="n">{% if method.steadiness is none %}–{% else %}
{{- method.steadiness | percent }} ({{ method.steadiness_interval | between }}){% endif %}</td>
<td class="n">{{ method.most_frequent | percent }}</td></tr>
{% endfor %}
</table></div>
<p class="soft">Over all wordings and instructions, with the calibration {{ report.factors[3].levels[0].name }}.
In brackets: 95 % intervals, for other rows like these.</p>

{% for factor in report.factors if factor.levels | length > 1 %}
<h2>{{ {"wording": "The words for the labels", "instruction": "The instructions", "method": "The methods",
"calibration": "The calibrations"}[factor.name] }}</h2>
<div class="box"><table>
<thead><tr><th>{{ factor.name }}</th>
{% if gold %}<th class="n">mean</th><th class="n">worst</th><th class="n">best</th>{% endif %}
<th class="n">agrees with most ways</th></tr></thead>
{% for level in factor.levels %}
<tr{% if loop.first %} class="own"{% endif %}><td class="words">{{ level.name }}
{% set origin = level.from_where or ("yours" if loop.first else "") %}
{% if origin %}<span class="tag">({{ origin }})</span>{% endif %}
{% if not level.origin %}<br><span class="tag">{{ explained[level.name] }}</span>{% endif %}</td>
{% if gold %}<td class="n">{{ level.mean | percent }}</td><td class="n">{{ level.worst | percent }}</td>
<td class="n">{{ level.best | percent }}</td>{% endif %}
<td class="n">{{ level.with_most | percent }}</td></tr>
{% endfor %}
</table></div>
{% endfor %}
<p class="soft">{% if gold %}Shares of rows labelled right, over all ways that have it. The best of many is partly luck:
trust what was tried on other rows. {% endif %}
“Agrees with most ways”: the share of rows to which its ways give the label that most of all ways give.</p>

{% if touchy %}
<h2>The rows that change most</h2>
<p>Here the ways of asking disagree most. A person should look at rows like these.</p>
<div class="box">
{% for row in touchy %}
<div class="row"><p>{{ row.text }}</p>
<div class="votes">{% for label, votes, width, k in row.votes %}
<i class="k{{ k }}" style="width:{{ width }}%"></i>{% endfor %}</div>
<p class="said">{% for label, votes, width, k in row.votes %}
<span><i class="swatch k{{ k }}"></i>{{ label | line }} {{ "{:,}".format(votes) }}</span>
{% endfor %}</p>
<p class="said soft">{{ row.where }}; your way says {{ row.own | line }}
{%- if row.gold is not none %}; right is {{ row.gold | line }}{% endif %}</p></div>
{% endfor %}
</div>
{% endif %}

{% if shares %}
<h2>How often each label is given</h2>
<div class="box"><table>
<thead><tr><th>label</th>{% if gold %}<th class="n">right answers</th>{% endif %}
<th class="n">yours</th><th class="n">fewest, of all ways</th><th class="n">most</th></tr></thead>
{% for row in shares %}
<tr><td>{{ row.label | line }}</td>{% if gold %}<td class="n">{{ row.gold | percent }}</td>{% endif %}
<td class="n">{{ row.own | percent }}</td><td class="n">{{ row.span.low | percent }}</td>
<td class="n">{{ row.span.high | percent }}</td></tr>
{% endfor %}
</table></div>
{% endif %}

<details><summary>All {{ "{:,}".format(order | length) }} ways</summary>
<div class="box"><table>
<thead><tr><th>wording</th><th>instruction</th><th>method</th><th>calibration</th>
{% if gold %}<th class="n">right</th><th class="n">macro-F1</th>{% endif %}
<th class="n">same as yours</th>
{% if not gold and shares %}{% for row in shares %}<th class="n">{{ row.label | line }}</th>{% endfor %}{% endif %}
</tr></thead>
{% for variant in order %}
<tr{% if variant.place == report.own.place %} class="own"{% endif %}>
{% for name, what in way(variant.place).items() %}<td>{{ what }}</td>{% endfor %}
{% if gold %}<td class="n">{{ variant.hits.accuracy | percent }} ({{ variant.hits.interval | between }})</td>
<td class="n">{{ "%.2f" | format(variant.macro_f1) }} ({{ "%.2f" | format(variant.macro_f1_interval.low) }} to
{{ "%.2f" | format(variant.macro_f1_interval.high) }})</td>{% endif %}
<td class="n">{{ variant.same_as_own | percent }}</td>
{% if not gold and shares %}
{% for share in variant.shares %}<td class="n">{{ share | percent }}</td>{% endfor %}
{% endif %}
</tr>
{% endfor %}
</table></div></details>

<details><summary>How this was worked out</summary>
<dl>
<dt>Rows</dt><dd>{{ counted(report.rows, "row") }} of {{ "{:,}".format(report.rows_in_file) }} that could be used, drawn
with seed {{ report.seed }}. {{ "{:,}".format(report.asked) }} scores were asked of the model: one for each row,
wording, instruction, label and direction. Methods and calibrations are worked out of the same scores.</dd>
{% if gold %}
<dt>Choosing and confirming</dt><dd>The rows are divided at random into two halves, each right answer in both as equally
often as can be. The way with the most right labels on the first half is chosen (of equals the one that changes least)
and tried on the second, against yours on the same rows. Each half is labelled as if there were no other rows: batch
calibration learns from its own texts only. A difference counts as more than chance below 5 % of McNemar's test; where
the best of each single thing is tried, the tests are corrected for their number (Holm). Its interval is the paired
bootstrap's.</dd>
<dt>Accuracy and macro-F1</dt><dd>The share of rows labelled right, with Wilson's 95 % interval; the mean over labels of
F1, with a bootstrap interval. All ways of asking together cannot be compared by these intervals: the highest of many is
partly luck.</dd>
{% endif %}
<dt>Labels that change</dt><dd>The share of rows that get another label when one thing changes from one level to
another, the mean over all pairs of levels and all that the other things can be.</dd>
<dt>Labels kept when words change</dt><dd>For each row the share of pairs, among all wordings and instructions, that
give it the same label; the mean over rows, with a bootstrap interval over rows (Wilson's
where all rows are alike). A method that always says one label keeps all of them: look at its most frequent label
too.</dd>
<dt>Kappa</dt><dd>Fleiss’: (P − Pe) / (1 − Pe), with P the share of equal labels of two ways taken at random and Pe the
sum of the squared shares of the labels.</dd>
</dl>
</details>
{% if report.notes %}
<h2>Notes</h2>
<ul>
{% for note in report.notes %}<li>{{ note }}</li>{% endfor %}
</ul>
{% endif %}
</main>
</body>
</html>
"""
