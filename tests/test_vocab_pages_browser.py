"""Pages in a real browser: no complaint on the console, nothing a stranger wrote is run, tables are sorted."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.config import Report
from pipeline.report.story import report
from tests.labels import EVIL, HOSTILE_CAPTIONS, hostile_labels
from tests.run_page import html as run_page
from trainer.records.classes import ClassScores
from trainer.records.page import finetune_page
from vocab.pages.page import render

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True)
class Opened:
    """A page as the browser has it after loading."""

    dom: str
    console: list[str]

    @property
    def title(self) -> str:
        found = re.search("<title>(.*?)</title>", self.dom)
        return "" if found is None else found[1]


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser on the PATH ({', '.join(BROWSERS)}); apt-get install chromium")
    return found


def open_page(browser: str, page: Path, profile: Path) -> Opened:
    command = [
        browser,
        "--headless=new",
        "--no-sandbox",  # as root, in a container
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        "--v=0",
        "--dump-dom",
        page.as_uri(),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Opened(result.stdout, [line for line in result.stderr.splitlines() if ":CONSOLE" in line])


def test_the_browser_s_console_is_heard(browser: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(f"<!doctype html><title>still</title>{EVIL}")
    opened = open_page(browser, tmp_path / "page.html", tmp_path / "profile")
    assert opened.title == "ran"
    assert len(opened.console) == 1
    assert '"ran"' in opened.console[0]


def test_a_script_that_slipped_through_would_not_run(browser: str, tmp_path: Path) -> None:
    page = render("vocab/pages/base.html", title="still")
    assert "</body>" in page
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{EVIL}<p onclick=x style='color:red'></body>"))
    opened = open_page(browser, tmp_path / "page.html", tmp_path / "profile")
    assert opened.title == "still"
    assert opened.console
    assert all("Content Security Policy" in line for line in opened.console)


def test_the_report_opens_without_a_complaint_and_runs_no_caption(browser: str, tmp_path: Path) -> None:
    labels, source = hostile_labels(tmp_path)
    (tmp_path / "classes.txt").write_text("n02084071\nn02121620\n")
    report(
        Report(str(labels), tmp_path / "report.html", (str(source),), 9, min_count=1, classes=tmp_path / "classes.txt")
    )
    opened = open_page(browser, tmp_path / "report.html", tmp_path / "profile")
    # Silence also says that the policy knows the style sheet: one that it blocks is a complaint.
    assert opened.console == []
    assert opened.title == f"Labels: {labels}"
    assert "&lt;script&gt;document.title=" in opened.dom
    assert "<script" not in opened.dom
    assert "<img" not in opened.dom
    assert HOSTILE_CAPTIONS[2].replace("&", "&amp;") in opened.dom
    assert opened.dom.count("<svg") >= 6


PRESS = """
const order = () => [...document.querySelectorAll("table.sortable tbody tr")].map(row => row.cells[0].textContent);
const [name, images, accuracy] = document.querySelectorAll("table.sortable th button");
accuracy.focus();
const told = [document.activeElement === accuracy ? "focused" : "lost"];
for (const button of [accuracy, accuracy, images, name]) { button.click(); told.push(order().join(",")); }
document.title = `${told.join(" ")} ${name.parentElement.getAttribute("aria-sort")}`;
"""


def test_a_press_on_a_heading_sorts_the_table_of_classes(browser: str, tmp_path: Path) -> None:
    counts = {"parameters": 5000, "train_images": 6, "images": 3, "images_seen": 12, "processes": 1, "steps": 2}
    facts = {**counts, "device": "cpu", "notes": [], "top1": 0.5}
    scores = ClassScores(("class", "images", "accuracy"), [("10", 3), ("9", 0), ("c", 1200)], [0.25, math.nan, 1.0])
    (tmp_path / "metrics.jsonl").touch()
    page = finetune_page(tmp_path, facts, model="m", classes=scores, total_steps=2, seconds=1.0)
    rows = re.search(r"<table class=sortable>.*?<tbody>(.*?)</tbody>", page, re.DOTALL)
    assert rows is not None
    # Without the script: every class in its order, and headings that are no buttons.
    assert re.findall(r"<td><bdi>(\w+)</bdi></td>", rows[1]) == ["10", "9", "c"]
    assert "<button" not in page

    # The policy lets the page's own script run, and here one more, which presses.
    digest = base64.b64encode(hashlib.sha256(PRESS.encode()).digest()).decode()
    allowed = page.replace("script-src ", f"script-src 'sha256-{digest}' ")
    pressed = allowed.replace("</body>", f"<script>{PRESS}</script></body>")
    (tmp_path / "page.html").write_text(pressed)
    opened = open_page(browser, tmp_path / "page.html", tmp_path / "profile")
    assert opened.console == []
    # Descending, ascending, by numbers of more than three digits, by names and the numbers in them; a class without a
    # score is last.
    assert opened.title == "focused c,10,9 10,c,9 c,10,9 9,10,c ascending"


def test_a_run_s_page_opens_without_a_complaint_and_runs_no_caption(browser: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(run_page(caption=EVIL, key=EVIL, title=EVIL, model=EVIL))
    opened = open_page(browser, tmp_path / "page.html", tmp_path / "profile")
    assert opened.console == []
    assert opened.title != "ran"
    assert opened.dom.count('<button type="button">') == 5
    assert "&lt;script&gt;document.title=" in opened.dom
