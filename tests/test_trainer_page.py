"""The page: whole in one file, strangers' text escaped, a curve one can read."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus import make_corpus
from tests.run_page import LINES, evaluation, html
from trainer.records.gallery import Guess, _caption, log_pictures, pictures
from trainer.records.log import Log
from trainer.records.page import LOSS, PACE, SCORES, WHOLE, draw
from vocab.store.tars import Member


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        ('{"caption": "a \\ud83d dog"}', "a ? dog"),
        ('{"caption": "a \\ud83d\\udc36 dog"}', "a \U0001f436 dog"),
        ('{"caption": "a dog", "n": ' + "1" * 5_000 + "}", ""),
        ("[" * 100_000 + "]" * 100_000, ""),
    ],
    ids=["half a surrogate pair", "a surrogate pair", "5,000 digits", "lists in lists"],
)
def test_a_caption_of_hostile_json_can_be_written(tmp_path: Path, record: str, shown: str) -> None:
    (tmp_path / "a.json").write_text(record)
    with (tmp_path / "a.json").open("rb") as file:
        found = _caption(file, {"json": Member("a.json", 0, len(record))})
    assert found.encode().decode() == shown


def test_the_page_shows_the_numbers_the_guesses_and_the_vocabulary() -> None:
    text = html()
    assert "3 held-out images, in which 2 of the classes occur" in text
    assert "<b class=number>1.000</b><span>mean average precision</span>" in text
    assert "<b class=number>0.333</b><span>from class frequencies alone</span>" in text
    assert "<b class=number>66.7%</b><span>of the images: the most probable class is one of the labels</span>" in text
    assert '<li class=right title="dog.n.01">✓ <bdi>dog</bdi> <span class=number>88%</span></li>' in text
    assert '<li title="cat.n.01"><bdi>cat</bdi> <span class=number>27%</span></li>' in text
    assert text.index("Held-out pictures") < text.index("<h2>Training</h2>")
    assert "n02084071" in text
    assert "2 synsets seen in at least 30 of 5,000 captions" in text


def test_a_page_of_a_run_that_goes_on_says_how_far_it_is() -> None:
    assert "As of step 500 of 2,000 (25%)" in html(total_steps=2000)
    assert "results.json" not in html(total_steps=2000)
    assert "As of step" not in html()
    assert "results.json" in html()


def test_figures_are_drawn_of_what_the_log_has() -> None:
    def titles(lines: list[dict[str, Any]]) -> list[str]:
        return re.findall(r"<figcaption class=title><b>([^<]+)</b>", html(lines=lines))

    assert titles(LINES) == ["Loss"]
    speed = [{"step": step, "images_per_second": 3.0, "mfu": 0.3 + step / 100} for step in (1, 2)]
    assert titles(LINES + speed) == ["Loss", "Speed", "Use of the device"]
    scores = [{"step": step, "eval_macro": step / 10, "eval_tail": None} for step in (4, 8)]
    probe = [{"step": step, "probe_top1": step / 10, "probe_top5": None} for step in (4, 8)]
    assert titles([*LINES, *scores, *probe]) == ["Loss", "Held-out images", "Linear probe"]
    # One evaluation is no curve, and is on the page already.
    assert titles([*LINES, scores[0]]) == ["Loss"]


def test_the_newest_probe_stands_beside_the_scores() -> None:
    lines = [*LINES, {"step": 4, "probe_top1": 0.2}, {"step": 8, "probe_top1": 0.375, "probe_top5": 0.5}]
    assert "<b class=number>37.5%</b><span>linear probe&#39;s accuracy; among its first five 50.0%" in html(lines=lines)
    assert "linear probe" not in html()


def svg_of(points: list[tuple[int, float | None]]) -> str:
    drawn = draw(LOSS, [{"step": step, "loss": loss} for step, loss in points], size=WHOLE)
    return "" if drawn is None else drawn["chart"]


def test_the_curve_falls_as_the_loss_does_and_its_axes_are_named() -> None:
    svg = svg_of([(1, 10.0), (50, 5.0), (100, 2.5)])
    points = re.search(r'points="([^"]+)"', svg)
    assert points is not None
    places = [tuple(map(float, pair.split(","))) for pair in points[1].split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted(y for _, y in places)  # SVG counts downwards
    assert "loss, nats per image" in svg
    assert ">step<" in svg


def test_a_run_too_short_for_a_curve_says_so() -> None:
    assert svg_of([(1, 3.0)]) == ""
    assert "no curve" in html(lines=[{"step": 1, "loss": 3.0}])


def test_what_no_axis_has_a_place_for_is_left_out() -> None:
    svg = svg_of([(1, 10.0), (2, None), (3, math.nan), (4, math.inf), (5, 0.0), (6, -1.0), (7, 5.0)])
    points = re.search(r'points="([^"]+)"', svg)
    assert points is not None
    assert len(points[1].split()) == 2
    assert "nan" not in svg
    assert "inf" not in svg


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(-1e30, 1e30)), min_size=2, max_size=20))
def test_any_numbers_lie_on_the_figure(values: list[tuple[int, float]]) -> None:
    for figure in (*SCORES, *PACE):
        name = next(iter(figure.series.values()))
        drawn = draw(figure, [{"step": step, name: value} for step, value in sorted(values)], size=WHOLE)
        svg = "" if drawn is None else drawn["chart"]
        for pair in re.findall(r"[\d.e+-]+,[\d.e+-]+", "".join(re.findall(r'points="([^"]+)"', svg))):
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 960
            assert 0 <= y <= 300


def test_a_softmax_s_small_probabilities_can_be_told_apart() -> None:
    assert [Guess("dog.n.01", share, right=True).percent for share in (0.88, 0.031, 0.0004)] == ["88%", "3.1%", "<0.1%"]


def test_pictures_carry_the_probabilities_of_the_run_s_loss(tmp_path: Path) -> None:
    source = make_corpus(tmp_path, tars=1, samples=3).source(train=False)
    logits = torch.tensor([[2.0, 2.0, -9.0]]).repeat(3, 1)
    result = replace(evaluation(), logits=logits, class_precision=torch.zeros(3).double())
    (first, _) = pictures(source, result, count=2, probabilities=torch.sigmoid)
    assert [round(guess.probability, 2) for guess in first.predicted] == [0.88, 0.88, 0.0]
    (first, _) = pictures(source, result, count=2, probabilities=lambda row: row.softmax(-1))
    assert [round(guess.probability, 2) for guess in first.predicted] == [0.5, 0.5, 0.0]
    with Log(tmp_path, start=0, steps=3) as log:
        log_pictures(log, [first], step=2)
    assert list((tmp_path / "tensorboard").iterdir())
