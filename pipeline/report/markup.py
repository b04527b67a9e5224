"""One self-contained HTML page: strangers' text made harmless, tables, the style sheet, the frame around it all.

In: texts from captions, file names and reasons, which may hold anything. Out: HTML that shows them and does nothing
else. The page forbids itself scripts, and everything from elsewhere, by a Content-Security-Policy; its style sheet is
allowed by its hash, so that no text can bring another.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence

from vocab.pages.text import in_html

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #667079; --paper: #fbfbf9; --card: #fff; --line: #e2e3de;
  --accent: #2b6cb0; --second: #b4560f; --person: #f4d5b8; --artifact: #cbdcf5; --place: #dbe6c6; --creature: #f4e69c;
  --plant: #b9e4c9; --food: #f8c3cc; --act: #ddd0f0; --abstract: #b5e3e3; --other: #e3e3df; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ea; --soft: #98a1a8; --paper: #15181b; --card: #1d2125;
  --line: #30363c; --accent: #7ab3ef; --second: #f0a868; --person: #5a3d29; --artifact: #2a425e; --place: #39492d;
  --creature: #564a1c; --plant: #1f4a36; --food: #5c2f33; --act: #43365c; --abstract: #224a4e; --other: #3a3d3f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 5rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 3rem 0 .9rem; } h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p { max-width: 46rem; margin: .6rem 0; } a { color: var(--accent); } .soft { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .92rem; }
.number { font-variant-numeric: tabular-nums; } td.number, th.number { text-align: right; overflow-wrap: normal; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem; margin: 1.6rem 0; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; }
.cards b { display: block; font-size: 1.6rem; line-height: 1.2; } .cards span { color: var(--soft); font-size: .87rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.2rem 1.6rem; }
.pair > * { min-width: 0; } figure { margin: 0; } figcaption { color: var(--soft); font-size: .87rem; }
svg { display: block; width: 100%; height: auto; }
.chart { background: var(--card); border: 1px solid var(--line); border-radius: 10px; max-width: 40rem; }
.chart text { fill: var(--soft); font: 13px system-ui, sans-serif; } .grid { stroke: var(--line); }
.curve { fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; } .bar { fill: var(--accent); }
.second { stroke: var(--second); stroke-dasharray: 5 4; } .mark { stroke: var(--second); stroke-dasharray: 2 3; }
i.first, i.broken { display: inline-block; width: 1.6em; margin-right: .3em; vertical-align: middle; }
i.first { border-top: 2px solid var(--accent); } i.broken { border-top: 2px dashed var(--second); }
table { border-collapse: collapse; width: 100%; font-size: .92rem; } .wide { overflow-x: auto; margin-top: .8rem; }
.wide td:not(.number) { min-width: 6rem; }
th, td { text-align: left; vertical-align: top; padding: .32rem .8rem .32rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; } .synsets td.name { min-width: 11rem; }
td.texts { width: 48%; } td p { margin: 0 0 .25rem; }
details { margin-top: .8rem; } details summary { cursor: pointer; color: var(--accent); }
.treemap text { fill: var(--ink); font-family: system-ui, sans-serif; } .narrow { display: none; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: 0; margin: .6rem 0; list-style: none;
  font-size: .87rem; }
.legend i { display: inline-block; width: .9em; height: .9em; margin-right: .4em; border-radius: 3px;
  vertical-align: -.1em; }
.person { fill: var(--person); background: var(--person); } .food { fill: var(--food); background: var(--food); }
.artifact { fill: var(--artifact); background: var(--artifact); } .act { fill: var(--act); background: var(--act); }
.place { fill: var(--place); background: var(--place); } .plant { fill: var(--plant); background: var(--plant); }
.creature { fill: var(--creature); background: var(--creature); }
.abstract { fill: var(--abstract); background: var(--abstract); }
.other { fill: var(--other); background: var(--other); }
@media (max-width: 40rem) {
  body { padding: 1.5rem .9rem 3rem; } .chart text { font-size: 16px; }
  .wide th, .wide td { padding-right: .5rem; font-size: .84rem; }
  .treemap.broad { display: none; } .treemap.narrow { display: block; }
  .synsets thead { display: none; }
  .synsets tr { display: flex; flex-wrap: wrap; gap: 0 .7rem; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .synsets td, .synsets td.name { border: 0; padding: 0; min-width: 0; }
  .synsets td.soft { width: 100%; order: 1; } .synsets td.texts { width: 100%; order: 2; margin-top: .3rem; }
}
"""
POLICY = (
    "default-src 'none'; script-src 'none'; base-uri 'none'; form-action 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)

LONGEST_TEXT = 240
"""letters of a caption, reason or path that are shown"""


def plain(text: str) -> str:
    """Any text as the content of an element or of a quoted attribute: markup escaped, hidden characters written out.

    "<b>" -> "&lt;b&gt;"    "gnp\\u202ejpg" -> "gnp\\\\u202ejpg"
    """
    return in_html(text, longest=LONGEST_TEXT)


def stranger(text: str) -> str:
    """A stranger's text inside a sentence of ours: `plain`, and its direction of writing stays its own."""
    return f"<bdi>{plain(text)}</bdi>"


def paragraphs(texts: Iterable[str]) -> str:
    """Strangers' texts, each in a paragraph of its own direction."""
    return "".join(f"<p dir=auto>{plain(text)}</p>" for text in texts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int]) -> str:
    """A table of texts, any of them a stranger's; `numbers` are the columns set flush right."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag} class=number>{plain(cell)}</{tag}>" if place in numbers else f"<{tag}>{stranger(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{line(head, 'th')}</tr></thead><tbody>{body}</tbody></table></div>"


def figure(drawing: str, caption: str) -> str:
    """A drawing above its caption, both HTML."""
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def side_by_side(*parts: str) -> str:
    """HTML beside each other where the screen is wide enough, else one below the other."""
    return f"<div class=pair>{''.join(parts)}</div>"


def cards(values: Iterable[tuple[str, str]]) -> str:
    """Large numbers, each with what it is."""
    shown = "".join(
        f"<div><b class=number>{plain(value)}</b><span>{plain(what)}</span></div>" for value, what in values
    )
    return f"<div class=cards>{shown}</div>"


def section(name: str, title: str, *parts: str) -> str:
    """A section of the page: `name` is its anchor, `title` and `parts` are HTML."""
    return f'<section id="{name}"><h2>{title}</h2>{"".join(parts)}</section>'


def share(part: int, whole: int) -> str:
    """1, 8 -> "12.5%"; "-" of nothing."""
    return f"{part / whole:.1%}" if whole else "-"


def counted(number: int, noun: str) -> str:
    """1, "input file" -> "1 input file"; 2,000 -> "2,000 input files"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def document(title: str, body: str) -> str:
    """The whole page. `title` is text, `body` HTML."""
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{plain(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )
