"""A report as one HTML file: it needs no network, reads without scripts, and follows the reader's light or dark scheme.

The only script sorts tables. The page's own policy (CSP) allows that script and the style sheet by their digests and
nothing else, so that a name that holds markup could do nothing even if it were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from markupsafe import Markup

from obverse.reports.blocks import Piece
from obverse.reports.charts import COLOURS, SHADES, section


def page(title: str, subtitle: str, pieces: Sequence[Piece]) -> str:
    """The whole page.

    Args:
        title: heading; plain text, as everything else here.
        subtitle: a line below it.
    """
    links = Markup("\n").join(Markup('<a href="#{}">{}</a>').format(piece.name, piece.title) for piece in pieces)
    sections = Markup("\n").join(section(piece) for piece in pieces)
    policy = (
        f"default-src 'none'; style-src '{_digest(_STYLE)}'; script-src '{_digest(_SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return str(
        Markup(_PAGE).format(
            title=title,
            subtitle=subtitle,
            policy=policy,
            style=Markup(_STYLE),
            script=Markup(_SCRIPT),
            links=links,
            sections=sections,
        )
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="soft">{subtitle}</p>
<nav aria-label="Parts of the report">
{links}
</nav>
</header>
<main>
{sections}
</main>
<script>{script}</script>
</body>
</html>
"""

# Okabe and Ito's palette, which colour-blind readers can tell apart; lighter on dark ground.
_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#a8518a", "#b07c00", "#3a8fc4", "#5b636c")
_DARK = ("#5eb3ec", "#ff9452", "#35c99c", "#e29cc6", "#e8b53c", "#a6daf7", "#a3abb3")


def _colours(names: Sequence[str]) -> str:
    return "; ".join(f"--c{i}: {name}" for i, name in enumerate(names))


_LIGHT_ROOT = (
    "--page: #fbfbf9; --card: #fff; --ink: #1f2328; --soft: #59616a; --line: #d9dce0; --grid: #eceef0; "
    f"--blue: #0072b2; --warn: #fdf0e4; --warn-line: #d55e00; --foot: #f3f4f2c0; --shadow: #0003; {_colours(_LIGHT)}"
)
_DARK_ROOT = (
    "--page: #14171a; --card: #1c2024; --ink: #e6e8ea; --soft: #a3abb3; --line: #383e45; --grid: #2a2f35; "
    f"--blue: #5eb3ec; --warn: #33261a; --warn-line: #ff9452; --foot: #23282dc0; --shadow: #000a; {_colours(_DARK)}"
)

_STYLE = (
    f":root {{ color-scheme: light dark; {_LIGHT_ROOT} }}\n"
    f"@media (prefers-color-scheme: dark) {{ :root {{ {_DARK_ROOT} }} }}\n"
    f"@media print {{ :root {{ color-scheme: light; {_LIGHT_ROOT}; --page: #fff }} }}\n"
    """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header, main { max-width: 72rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
main { padding-bottom: 4rem; }
h1 { font-size: 1.65rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .6rem; }
h3 { font-size: .95rem; margin: .9rem 0 .15rem; }
p { margin: .3rem 0; max-width: 48rem; }
a { color: var(--blue); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; font-size: .92rem; margin: .9rem 0 0; padding: .6rem 0;
  border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
.soft, .soft p { color: var(--soft); font-size: .875rem; }
.soft { margin-top: .5rem; }
figure { margin: 1.1rem 0; }
figcaption { font-weight: 600; font-size: .95rem; margin-bottom: .45rem; max-width: 52rem; }
.warning { border-left: 4px solid var(--warn-line); background: var(--warn); padding: .5rem .9rem; margin: .8rem 0;
  border-radius: 0 6px 6px 0; }
.notes { padding-left: 1.2rem; font-size: .92rem; max-width: 50rem; }
.notes li { margin: .15rem 0; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: 1rem 0; font-size: .95rem; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; }
.box, .card { border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
/* A shadow at an edge says that a table goes on there. */
.box { overflow-x: auto; background:
  linear-gradient(to right, var(--card) 40%, transparent) 0 0 / 3rem 100% local no-repeat,
  linear-gradient(to left, var(--card) 40%, transparent) 100% 0 / 3rem 100% local no-repeat,
  linear-gradient(to right, var(--shadow), transparent) 0 0 / .8rem 100% no-repeat,
  linear-gradient(to left, var(--shadow), transparent) 100% 0 / .8rem 100% no-repeat, var(--card); }
.box:focus-visible { outline: 2px solid var(--blue); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; line-height: 1.35; }
th, td { text-align: left; vertical-align: top; padding: .42rem .75rem; border-top: 1px solid var(--line);
  font-weight: 400; overflow-wrap: normal; }
thead th { border-top: 0; color: var(--soft); font-weight: 600; vertical-align: bottom; font-size: .94em; }
tbody th { min-width: 9.5rem; max-width: 18rem; overflow-wrap: anywhere; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
thead .n { white-space: normal; min-width: 4.6rem; }
td small, th small { display: block; color: var(--soft); font-size: .87em; }
td.n small, td.n > i, td.n > abbr { white-space: nowrap; }
td.n small { padding-right: 1.05rem; }
td.n > i, td.n > abbr { display: inline-block; width: 1.05rem; text-align: right; font-style: normal;
  text-decoration: none; font-size: .89em; color: var(--blue); cursor: help; }
.best { font-weight: 700; }
td.dim, td.others, td.others small { color: var(--soft); }
td.best small { font-weight: 400; }
tr.section th { background: var(--foot); font-weight: 600; font-size: .95em; max-width: none; }
tr.foot th, tr.foot td { background: var(--foot); border-top: 2px solid var(--line); }
tr.foot th { font-weight: 600; }
tr.foot small { font-weight: 400; }
.wraps td { min-width: 8rem; max-width: 30rem; overflow-wrap: anywhere; }
.wraps td:nth-child(2) { min-width: 14rem; }
.wraps tbody th { max-width: 12rem; font-size: .94em; }
th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
th[aria-sort=ascending] button::after { content: " ↑"; }
th[aria-sort=descending] button::after { content: " ↓"; }
.matrix { display: inline-block; vertical-align: top; margin: .8rem 1.2rem .8rem 0; max-width: 100%; }
.matrix table { width: auto; }
.matrix .box { width: fit-content; max-width: 100%; }
.matrix figcaption { font-size: .86rem; max-width: 20rem; }
.matrix tbody th { min-width: 0; max-width: 12rem; }
.matrix .n { min-width: 3.4rem; }
.chart .card { padding: .5rem 1rem .6rem; }
.group { break-inside: avoid; }
.strip { display: grid; grid-template-columns: minmax(6rem, 13rem) 1fr 9.6rem; align-items: center; column-gap: 1rem;
  font-size: .88rem; line-height: 1.3; break-inside: avoid; }
.strip .name { grid-area: 1 / 1; }
.strip .plot { grid-area: 1 / 2; width: 100%; overflow: visible; display: block; }
.strip .value { grid-area: 1 / 3; text-align: right; font-variant-numeric: tabular-nums; }
.plot svg { overflow: visible; }
.axis text, .diagram text { fill: var(--soft); font-size: 12px; text-anchor: middle; }
.diagram text.left { text-anchor: end; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; font-size: .86rem; color: var(--soft); margin: 0 0 .4rem;
  max-width: none; }
.legend svg { vertical-align: -2px; overflow: visible; }
.grid { stroke: var(--grid); fill: none; }
.line { stroke: var(--soft); stroke-dasharray: 3 3; fill: none; }
.bar { stroke-width: 5; stroke-opacity: .3; stroke-linecap: round; }
.tick { stroke-width: 3; }
.dot { fill-opacity: .55; stroke: none; }
.mark { stroke: var(--card); stroke-width: 1; }
.curve { fill: none; stroke-opacity: .45; stroke-width: 1.5; }
.hollow { fill: var(--card); stroke-width: 2; }
.diagrams { display: flex; flex-wrap: wrap; gap: 1rem; }
.diagram { border: 1px solid var(--line); border-radius: 8px; background: var(--card); padding: .3rem 1rem .7rem;
  width: 19rem; max-width: 100%; break-inside: avoid; }
.diagram svg { width: 100%; display: block; }
.diagram p { font-size: .84rem; font-variant-numeric: tabular-nums; margin: .3rem 0 0; }
"""
    + "".join(
        f".c{i} {{ fill: var(--c{i}); stroke: var(--c{i}); }}\n.curve.c{i} {{ fill: none; }}\n" for i in range(COLOURS)
    )
    + ".c-others { fill: var(--soft); stroke: var(--soft); }\n.hollow.c-others { fill: var(--card); }\n"
    + "".join(f".mark.c{i} {{ stroke: var(--card); }}\n.dot.c{i} {{ stroke: none; }}\n" for i in range(COLOURS))
    + "".join(
        f".s{i} {{ background: color-mix(in srgb, var(--blue) {round(52 * i / SHADES)}%, var(--card)); }}\n"
        for i in range(SHADES + 1)
    )
    + """
@media (max-width: 44rem) {
  header, main { padding-left: .8rem; padding-right: .8rem; }
  h1 { font-size: 1.35rem; }
  h2 { font-size: 1.12rem; margin-top: 2.2rem; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .4rem; }
  .strip { grid-template-columns: 1fr auto; column-gap: .6rem; padding: .15rem .4rem; }
  .strip .value { grid-area: 1 / 2; }
  .strip .plot { grid-area: 2 / 1 / auto / span 2; }
  .chart .card { padding: .4rem .5rem; }
  tbody th { min-width: 7.5rem; max-width: 9.5rem; }
  th, td { padding: .4rem .5rem; }
}
@media print {
  body { font-size: 10pt; }
  header, main { max-width: none; padding: 0; }
  nav { display: none; }
  h2 { margin-top: 1.6rem; break-after: avoid; }
  h3, figcaption, .legend, .axis { break-after: avoid; }
  figcaption, figure.chart { break-inside: avoid; }
  table { font-size: .76rem; }
  th, td { padding: .25rem .4rem; }
  tr, .matrix, .warning { break-inside: avoid; }
  .box { overflow: visible; background: none; }
  thead .n { min-width: 0; }
  .wraps td, .wraps td:nth-child(2), tbody th { min-width: 0; overflow-wrap: break-word; }
  .wide { font-size: .62rem; }
  .wide th, .wide td { padding: .15rem .2rem; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
)

_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.classList.contains("n") ? head.ariaSort !== "descending" : head.ariaSort === "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.ariaSort = down ? "descending" : "ascending";
      const value = (row) => {
        const text = row.cells[column].firstChild ? row.cells[column].firstChild.textContent : "";
        const number = parseFloat(text.replace("\\u2212", "-").replaceAll(",", ""));
        return head.classList.contains("n") ? (isNaN(number) ? -Infinity : number) : row.cells[column].textContent;
      };
      const body = table.tBodies[0];
      const rows = [...body.rows].filter((row) => !row.className);
      const others = [...body.rows].filter((row) => row.className);
      rows.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (down ? -1 : 1));
      body.append(...rows, ...others);
    });
  });
}
"""
