"""Pages: whatever a stranger wrote is shown as text, changes no element, and nothing is fetched or run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from pipeline.caption_sample import CaptionSample
from pipeline.config import Report
from pipeline.report.coverage import coverage_of
from pipeline.report.examples import Examples
from pipeline.report.sections import tail_samples
from pipeline.report.story import page as report_page
from pipeline.report.tally import tally_of
from tests.labels import write_five
from tests.run_page import html as run_page
from tests.synsets import CAT, DOG
from trainer.records.classes import ClassScores
from trainer.records.page import finetune_page
from vocab.pages.page import LONGEST_TEXT, brief, environment, policy_of, render, stranger
from vocab.pages.text import shown
from vocab.store.manifest import InputFile
from vocab.vocabulary import Vocabulary

HOSTILE = {
    "a script": "<script>alert(1)</script>",
    "an image": "<img src=https://evil.example/x.png onerror=alert(1)>",
    "an end of everything": "</bdi></p></td></table></svg></style></title></body></html><h1>mine</h1>",
    "double quotes": '" onmouseover="alert(1)" style="color:red',
    "single quotes": "' onfocus='alert(1)' autofocus='",
    "an entity": "&lt;script&gt; &amp; &#x202e;",
    "a template": "{{ 7 * 7 }}{% raw %}{# gone #}",
    "another direction": "gnp\u202egpj.exe \u2066\u2069\u200f",
    "control characters": "a\x00\x07\x1b[31m\x85\x9b2J\r\n\tb",
    "nothing to see": "a\u200bb\ufeff\u2060\xad\U000e0041",
    "half of a pair": "a \ud83d dog \udcff",
    "a long one": "x" * 10_000,
}
VOID = {"meta", "img"}


class Elements(HTMLParser):
    """Elements and attributes in order; `open` are those without their end."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str | None] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value for name, value in attrs if name in {"src", "href", "srcset", "action", "data"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a beginning"
        assert self.open.pop() == tag


def report_of(text: str, folder: Path) -> str:
    """Render a report with a stranger's text wherever it can stand."""
    labels = write_five(folder / "labels", reasons=(text.encode("utf-8", "replace").decode(),))
    tally = tally_of(labels)
    inputs = (InputFile(text, 1, "", rows=6, labelled=4, empty=1, rejected=1),)
    labels.location = text
    labels.manifest = replace(
        labels.manifest, inputs=inputs, labeler=text, wordnet=text, labeler_fingerprint=text[:200]
    )
    examples = Examples({DOG: [text, text], CAT: [text]}, CaptionSample([text], rows=1, rows_read=1, files=1, listed=1))
    coverage = coverage_of(tally, np.array([DOG, 2691156], np.int32), min_count=1)
    options = Report("labels", folder / "report.html", min_count=1, classes=Path(text.replace("\0", "")))
    return report_page(labels, tally, options, samples=tail_samples(tally), examples=examples, coverage=coverage)


def run_of(text: str, folder: Path) -> str:
    """Render a run's page with a stranger's text wherever it can stand."""
    vocabulary = Vocabulary(np.array([DOG, CAT], np.int32), np.array([1200, 34]), rows=5000, min_count=30)
    vocabulary.__dict__["names"] = [text, text]
    return run_page(text, text, vocabulary=vocabulary, title=text, model=text, device=text, total_steps=2000)


def finetune_of(text: str, folder: Path) -> str:
    """Render a fine-tuning run's page with a stranger's text wherever it can stand."""
    facts: dict[str, object] = {"parameters": 5000, "train_images": 6, "images": 3, "images_seen": 12, "processes": 1}
    lines = [{"step": step, "loss": 1.0 / step, "eval_top1": 0.1 * step} for step in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    facts |= {"device": text, "notes": [text, text], "steps": 2, "top1": 0.5}
    classes = ClassScores(("class", "images", "accuracy"), [(text.encode("utf-8", "replace").decode(), 3)], [0.5])
    return finetune_page(folder, facts, model=text, classes=classes, total_steps=4, seconds=1.0)


PAGES = pytest.mark.parametrize(
    "page_of", [report_of, run_of, finetune_of], ids=["a report", "a run's page", "a fine-tuning run's page"]
)


@PAGES
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_stranger_s_text_changes_no_element_and_hides_nothing(
    tmp_path: Path, text: str, page_of: Callable[[str, Path], str]
) -> None:
    page = page_of(text, tmp_path)
    (tmp_path / "plain").mkdir()
    plain = page_of("plain", tmp_path / "plain")
    assert Elements(page).found == Elements(plain).found
    assert shown(page, lines=True) == page
    assert page.encode()
    assert page.count(str(stranger(text))) >= 2
    # What is not cut holds the text in full.
    assert page.count(str(brief(text))) + page.count(str(Markup.escape(shown(text)))) >= 4


@PAGES
def test_every_element_ends_and_nothing_is_fetched_or_run(tmp_path: Path, page_of: Callable[[str, Path], str]) -> None:
    page = page_of("plain", tmp_path)
    elements = Elements(page)
    assert elements.open == []
    assert not {tag for tag, _ in elements.found} & {"iframe", "object", "embed", "link", "base", "form"}
    # The runs' pages hold one script of ours, which sorts their tables; it has no attribute, so it fetches nothing.
    scripts = [] if page_of is report_of else [("script", ())]
    assert [element for element in elements.found if element[0] == "script"] == scripts
    assert not [name for _, names in elements.found for name in names if name.startswith("on") or name == "style"]
    assert all(link is not None and link.startswith(("#", "data:image/jpeg;base64,")) for link in elements.links)
    assert not re.search(r"https?:|url\(|@import", page)


@PAGES
def test_the_policy_stands_before_anything_else_and_knows_the_one_style_sheet_and_the_one_script(
    tmp_path: Path, page_of: Callable[[str, Path], str]
) -> None:
    page = page_of("plain", tmp_path)
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', page)
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy is not None
    assert policy.start() < page.index("<title>") < page.index("<style>")
    assert len(styles) == 1
    script = "".join(re.findall(r"<script>(.*?)</script>", page, re.DOTALL))
    assert policy[1] == policy_of(styles[0], script)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = "'none'" if page_of is report_of else f"'sha256-{digest}'"
    assert policy[1].startswith(f"default-src 'none'; script-src {allowed}; base-uri 'none'; form-action 'none'; ")


def test_a_page_names_itself() -> None:
    assert "<title>a &lt;b&gt; page</title>" in render("vocab/pages/base.html", title="a <b> page")


def test_a_value_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        render("vocab/pages/base.html")


def test_a_template_need_not_remember_to_escape() -> None:
    template = environment().from_string('<p title="{{ text }}">{{ text }} {{ text | stranger }} {{ 1234 | number }}')
    assert template.render(text='"<\u202e') == (
        '<p title="&#34;&lt;\\u202e">&#34;&lt;\\u202e <bdi>&#34;&lt;\\u202e</bdi> 1,234'
    )


def test_text_is_shown_in_full_up_to_a_length() -> None:
    assert brief("x" * LONGEST_TEXT) == "x" * 240
    assert brief("x" * 241) == "x" * 239 + "…"
