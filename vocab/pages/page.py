"""One self-contained HTML page from a template, harmless whatever the texts on it hold.

Strings are escaped and their hidden characters written out wherever a template puts them; only `Markup` passes as it
is. By a Content-Security-Policy the page forbids itself everything from elsewhere; the policy allows the style sheet,
and our own script where the page has one, by their hashes, so that no text can bring another.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from vocab.pages.text import counted, shown
from vocab.wordnet import words_of_name

STYLE, SORTING = "vocab/pages/style.css", "vocab/pages/sorting.js"
LONGEST_TEXT = 240
"""characters of a caption, key, reason or path that `stranger` and `brief` show"""


def render(template: str, *, sortable: bool = False, **values: object) -> str:
    """Page of a template such as "pipeline/report/report.html", which extends vocab/pages/base.html.

    `sortable`: the page has the script that sorts tables of the class "sortable". Raises jinja2's UndefinedError for a
    value that the template uses and `values` lacks.
    """
    style, script = text_of(STYLE), text_of(SORTING) if sortable else ""
    ours = {"style": Markup(style), "script": Markup(script), "policy": policy_of(style, script)}
    return environment().get_template(template).render(**ours, **values) + "\n"


@functools.cache
def environment() -> Environment:
    """Settings and filters that all templates share."""
    made = Environment(
        loader=FunctionLoader(text_of),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_hidden,
    )
    made.filters |= {"stranger": stranger, "brief": brief, "number": _number, "words": words_of_name}
    made.globals |= {"counted": counted}
    return made


def text_of(file: str) -> str:
    """Text of a file beside our modules, also where these are in a zip, as on Spark's driver in cluster mode."""
    package, _, name = file.rpartition("/")
    return files(package.replace("/", ".")).joinpath(name).read_text(encoding="utf-8")


def policy_of(style: str, script: str = "") -> Markup:
    """Content-Security-Policy that allows one style sheet, at most one script, and pictures inside the page."""
    scripts = _hash_of(script) if script else "'none'"
    return Markup(
        f"default-src 'none'; script-src {scripts}; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src {_hash_of(style)}"
    )


def stranger(text: str) -> Markup:
    """Stranger's text inside a sentence of ours: `brief`, and its direction of writing stays its own."""
    return Markup("<bdi>{}</bdi>").format(brief(text))


def brief(text: str) -> Markup:
    """Any text as the content of an element or of a quoted attribute, cut to `LONGEST_TEXT`.

    "<b>" -> "&lt;b&gt;"    "gnp\\u202ejpg" -> "gnp\\\\u202ejpg"
    """
    return Markup.escape(shown(text, longest=LONGEST_TEXT))


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _without_hidden(value: object) -> object:
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _number(value: float) -> str:
    return f"{value:,}"
