"""The HTML of reports: one self-contained page, readable offline, made of a few kinds of blocks."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

CSS = """
:root { --ink: #1d2733; --soft: #5b6773; --line: #e3e7ec; --accent: #1f6f8b; --good: #2f7d4f; --bad: #b5482f; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f9; color: var(--ink);
       font: 16px/1.55 -apple-system, "Segoe UI", "Helvetica Neue", "Noto Sans", Arial, sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
header { margin-bottom: 1.5rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .3rem; font-weight: 650; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; font-weight: 620; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; font-weight: 620; }
p { margin: .4rem 0 .8rem; max-width: 46em; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px;
          padding: 1.4rem 1.6rem; margin: 1.2rem 0; }
.lead, .note, figcaption { color: var(--soft); }
.note, figcaption { font-size: .88rem; }
figure { margin: 1rem 0 .4rem; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { margin-top: .35rem; max-width: 52em; }
.figures { display: flex; flex-wrap: wrap; gap: .4rem 1.6rem; align-items: flex-start; }
.figures figure { flex: 0 1 auto; }
.figures figcaption { max-width: 21rem; }
.part { margin: 3.2rem 0 0; }
.part h1 { font-size: 1.4rem; }
.tiles { display: flex; flex-wrap: wrap; gap: 1rem 2.6rem; margin: .6rem 0 .4rem; }
.tile .value { font-size: 1.65rem; font-weight: 640; letter-spacing: -.01em; font-variant-numeric: tabular-nums; }
.tile .value small { font-size: 1rem; font-weight: 500; color: var(--soft); }
.tile .label { color: var(--soft); font-size: .88rem; max-width: 15rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th { text-align: left; color: var(--soft); font-weight: 560; border-bottom: 1px solid #cfd6dd; }
th, td { padding: .34rem 1.1rem .34rem 0; vertical-align: top; }
td { border-bottom: 1px solid var(--line); }
.table td, .table th { white-space: nowrap; }
td.number, th.number { text-align: right; }
.good { color: var(--good); } .bad { color: var(--bad); }
code, pre { font: .86rem/1.5 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
pre { background: #f3f5f7; border-radius: 6px; padding: .7rem .9rem; overflow-x: auto; margin: .5rem 0; }
details summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
footer { color: var(--soft); font-size: .84rem; margin-top: 2rem; }
nav a { color: var(--accent); text-decoration: none; margin-right: 1.2rem; font-size: .92rem; }
@media (max-width: 640px) {
  main { padding: 1.2rem .6rem 2.5rem; } section { padding: 1rem .9rem; } .tiles { gap: .8rem 1.6rem; }
  figure { overflow-x: auto; } figure img { min-width: 17.5rem; max-width: none; width: 100%; }
}
@media print { body { background: #fff; } section { border: 0; padding: 0; break-inside: avoid; } }
"""


@dataclass
class Section:
    """One card of a page: a title and HTML blocks, in order. Text handed to the methods is escaped."""

    title: str
    blocks: list[str] = field(default_factory=list)
    anchor: str = ""
    link: str = ""
    """What to call it among the links at the top."""
    opens: bool = False
    """Whether it stands as a heading over the cards that follow."""

    def text(self, text: str, kind: str = "") -> None:
        """A paragraph; `kind` is "note" for small print, "lead" for a soft introduction."""
        self.blocks.append(f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>")

    def heading(self, text: str) -> None:
        self.blocks.append(f"<h3>{escape(text)}</h3>")

    def code(self, text: str) -> None:
        self.blocks.append(f"<pre>{escape(text)}</pre>")

    def tiles(self, tiles: Sequence[tuple[str, str, str]]) -> None:
        """Large figures side by side: (value, smaller addition, label)."""
        cells = [
            f'<div class="tile"><div class="value">{escape(value)} <small>{escape(extra)}</small></div>'
            f'<div class="label">{escape(label)}</div></div>'
            for value, extra, label in tiles
        ]
        self.blocks.append(f'<div class="tiles">{"".join(cells)}</div>')

    def figure(self, image: str, alt: str, caption: str = "") -> None:
        """An image as made by `svg_uri`, with a text for who cannot see it."""
        self.blocks.append(figure(image, alt, caption))

    def figures(self, images: Sequence[tuple[str, str, str]]) -> None:
        """Several figures that stand side by side where there is room: (image, alt, caption)."""
        inner = "".join(figure(*image) for image in images)
        self.blocks.append(f'<div class="figures">{inner}</div>')

    def table(
        self, rows: Sequence[Mapping[str, Any]], empty: str = "nothing to show", folded: str = ""
    ) -> None:
        """A table of rows; columns in the order in which their names first occur, numbers set right.

        With `folded`, only this line shows until it is clicked.
        """
        if not rows:
            self.text(empty, "note")
            return
        names = list(dict.fromkeys(name for row in rows for name in row))
        numeric = {n: all(isinstance(r.get(n), (int, float, type(None))) for r in rows) for n in names}
        head = "".join(f"<th{_right(numeric[n])}>{escape(n)}</th>" for n in names)
        body = "".join(
            "<tr>" + "".join(f"<td{_right(numeric[n])}>{_cell(r.get(n))}</td>" for n in names) + "</tr>"
            for r in rows
        )
        table = f'<div class="table"><table><tr>{head}</tr>{body}</table></div>'
        self.blocks.append(
            f"<details><summary>{escape(folded)}</summary>{table}</details>" if folded else table
        )

    def facts(self, facts: Mapping[str, Any], title: str = "How this was made") -> None:
        """A folded list of names and values."""
        rows = "".join(f"<tr><th>{escape(k)}</th><td>{_cell(v)}</td></tr>" for k, v in facts.items())
        self.blocks.append(f"<details><summary>{escape(title)}</summary><table>{rows}</table></details>")

    def html(self) -> str:
        anchor = f' id="{escape(self.anchor)}"' if self.anchor else ""
        if self.opens:
            return f'<div class="part"{anchor}><h1>{escape(self.title)}</h1>{"".join(self.blocks)}</div>'
        title = f"<h2>{escape(self.title)}</h2>" if self.title else ""
        return f"<section{anchor}>{title}{''.join(self.blocks)}</section>"


def page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """The whole document. Sections with an anchor are linked at the top when there are several."""
    linked = [s for s in sections if s.anchor]
    links = (
        "".join(f'<a href="#{escape(s.anchor)}">{escape(s.link or s.title)}</a>' for s in linked)
        if len(linked) > 1
        else ""
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>"
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
        f"{f'<nav>{links}</nav>' if links else ''}</header>"
        f"{''.join(s.html() for s in sections)}<footer>{escape(footer)}</footer></main></body></html>\n"
    )


def figure(image: str, alt: str, caption: str = "") -> str:
    """An image with its caption as HTML."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{image}" alt="{escape(alt)}">{below}</figure>'


def svg_uri(svg: bytes) -> str:
    """An SVG as a data address; as an image of its own its identifiers cannot clash with another one's."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _right(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return escape(f"{value:.4g}")
    return escape(str(value))
