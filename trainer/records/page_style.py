"""How a run's page looks, by day and by night."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #667079; --paper: #fbfbf9; --card: #fff; --line: #e2e3de;
  --accent: #2b6cb0; --right: #1f7a4d; --right-paper: #e2f3ea; --plain-paper: #eef0f2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ea; --soft: #98a1a8; --paper: #15181b; --card: #1d2125;
  --line: #30363c; --accent: #7ab3ef; --right: #7fd6a8; --right-paper: #16382a; --plain-paper: #2a2f35; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 5rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 3rem 0 .9rem; }
p { max-width: 46rem; } .soft { color: var(--soft); } .number { font-variant-numeric: tabular-nums; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: .8rem; margin: 1.6rem 0; }
.figures div, .picture { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.figures div { padding: .9rem 1.1rem; } .figures b { display: block; font-size: 1.7rem; line-height: 1.2; }
.figures span { color: var(--soft); font-size: .87rem; }
svg { width: 100%; height: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } svg .grid { stroke: var(--line); }
svg .curve { fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; }
figure { margin: 0; } figcaption { display: flex; justify-content: space-between; align-items: baseline; gap: 1rem;
  margin: 0 0 .35rem; font-size: .92rem; } svg circle { stroke: none; }
ul.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: 0; padding: 0; list-style: none;
  color: var(--soft); font-size: .84rem; } ul.legend b { color: var(--ink); font-weight: 600; }
ul.legend li:not(:only-child)::before { content: ""; display: inline-block; width: .8em; height: .2em;
  margin-right: .35em; vertical-align: middle; border-radius: 2px; background: var(--series); }
.c0 { --series: var(--accent); } .c1 { --series: #c2571a; } .c2 { --series: #1f8a5b; } .c3 { --series: #9a57b5; }
svg circle { fill: var(--series); } svg polyline.curve { stroke: var(--series); }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.4rem 1.6rem;
  margin-top: 1.4rem; }
.running { border-left: 3px solid var(--accent); padding: .1rem 0 .1rem .8rem; margin: .9rem 0 0; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(15.5rem, 1fr)); gap: 1rem; }
.picture { overflow: hidden; } .picture img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain;
  background: var(--plain-paper); } .picture > div { padding: .8rem .95rem 1rem; }
.caption { margin: 0 0 .6rem; overflow-wrap: anywhere; } .picture small { color: var(--soft); display: block; }
ul.synsets { list-style: none; margin: .2rem 0 .6rem; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem; }
ul.synsets li { background: var(--plain-paper); border-radius: 6px; padding: .05rem .5rem; font-size: .84rem; }
ul.synsets li.right { background: var(--right-paper); color: var(--right); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .32rem .8rem .32rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; } td.number, th.number { text-align: right; }
.halves { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 2.5rem; }
details summary { cursor: pointer; color: var(--accent); } footer { margin-top: 4rem; font-size: .87rem; }
"""
