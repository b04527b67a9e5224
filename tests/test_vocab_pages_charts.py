"""Curves, bars and treemaps as SVG: the right places, round ticks, whole areas."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocab.pages.charts import (
    Axis,
    Tile,
    abbreviated,
    bar_chart,
    line_chart,
    log_spaced,
    log_ticks,
    squarify,
    thinned,
    ticks,
    treemap,
    written_out,
)

LOG = Axis("rank", log=True)


def points_of(svg: str) -> list[list[tuple[float, float]]]:
    lines = re.findall(r'<polyline[^>]*points="([^"]*)"', svg)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())] for line in lines]


def test_a_power_law_is_a_straight_line_on_logarithmic_axes() -> None:
    svg = line_chart([[(1, 1000), (10, 100), (100, 10), (1000, 1)]], across=LOG, up=Axis("rows", log=True), title="t")
    (line,) = points_of(svg)
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(line)]
    assert steps[1] == pytest.approx(steps[0], abs=0.2)
    assert steps[2] == pytest.approx(steps[0], abs=0.2)
    assert steps[0][1] > 0  # SVG counts downwards


def test_a_share_of_nothing_lies_on_the_axis_and_a_share_of_all_at_the_top() -> None:
    svg = line_chart([[(1, 0.0), (10, 1.0)]], across=LOG, up=Axis("share", percent=True, ends=(0.0, 1.0)), title="t")
    assert [y for _, y in points_of(svg)[0]] == [262.0, 16.0]
    assert ">0%<" in svg
    assert ">100%<" in svg


def test_the_axes_are_named_and_the_second_line_is_broken() -> None:
    svg = line_chart(
        [[(1, 2), (2, 3)], [(1, 1), (2, 1)]], across=Axis("similarity"), up=Axis("classes"), title="near", broken=True
    )
    assert ">similarity<" in svg
    assert ">classes<" in svg
    assert 'aria-label="near"' in svg
    assert re.findall(r'class="(curve[^"]*)"', svg) == ["curve c0", "curve c1 broken"]


def test_points_that_a_logarithmic_axis_cannot_show_are_left_out() -> None:
    svg = line_chart([[(1, 5), (2, 0), (3, 1)]], across=LOG, up=Axis("rows", log=True), title="t")
    assert len(points_of(svg)[0]) == 2
    assert "Too few values" in line_chart([[(1, 5), (2, 0)]], across=LOG, up=Axis("rows", log=True), title="t")


def test_a_level_line_has_room_around_it() -> None:
    (line,) = points_of(line_chart([[(1, 7), (5, 7)]], across=LOG, up=Axis("rows", log=True), title="t"))
    assert line[0][1] == line[1][1] == pytest.approx(139.0)


def test_bars_stand_for_their_numbers_and_say_them() -> None:
    svg = bar_chart([("0", 10), ("1", 40), ("2+", 20)], across="synsets", up="rows", title="t")
    heights = [float(height) for height in re.findall(r'<rect class=bar[^>]* height="([^"]*)"', svg)]
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.5)
    assert heights[1] == pytest.approx(2 * heights[2], abs=0.5)
    assert "<title>2+: 20</title>" in svg
    assert "Nothing to count" in bar_chart([("0", 0)], across="synsets", up="rows", title="t")


def test_names_in_a_drawing_cannot_carry_markup() -> None:
    evil = '"></svg><script>alert(1)</script>'
    drawn = bar_chart([(evil, 1)], across=evil, up=evil, title=evil)
    drawn += treemap([Tile(evil, evil, 1.0, "food")], width=900, height=900, title=evil, name="broad")
    assert "<script" not in drawn
    assert drawn.count("</svg>") == 2


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 1.05, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 5208, [0, 1000, 2000, 3000, 4000, 5000]),
    ],
)
def test_linear_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("low", "high", "wanted"), [(1, 5000, [1, 10, 100, 1000]), (3, 40, [5, 10, 20]), (1, 10, [1, 2, 5, 10])]
)
def test_logarithmic_ticks_are_powers_of_ten_or_between(low: float, high: float, wanted: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(wanted)


@given(low=st.floats(0, 1e6), span=st.floats(1e-3, 1e12))
def test_linear_ticks_are_few_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 8
    assert all(low - span * 1e-3 <= tick <= low + span * 1.001 for tick in found)


def test_axes_have_round_numbers() -> None:
    assert ticks(0.0, 0.39) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert ticks(50.0, 11_950.0) == [2000.0, 4000.0, 6000.0, 8000.0, 10_000.0]
    assert ticks(3300.0, 4610.0) == [3400.0, 3600.0, 3800.0, 4000.0, 4200.0, 4400.0, 4600.0]
    assert log_ticks(6.18, 18.9) == [8.0, 10.0, 12.0, 14.0, 16.0, 18.0]
    assert log_ticks(0.347, 3.12) == [0.5, 1.0, 2.0]
    assert log_ticks(0.002, 300.0) == pytest.approx([0.01, 0.1, 1.0, 10.0, 100.0])
    assert [written_out(value) for value in (0.0, 0.5, 12.34, 4610.0, 64_000.0, 7.5e-4, 1e-3, 3e9, -2.0)] == [
        *("0", "0.5", "12.3", "4,610", "64,000", "7.5e-4", "1e-3", "3e9", "-2"),
    ]


def test_a_long_log_is_thinned_and_keeps_its_spikes() -> None:
    points = [(step, 1.0 + step % 7 / 10) for step in range(20_000)]
    points[12_345] = (12_345, 99.0)
    thin = thinned(points)
    assert len(thin) <= 960
    assert (12_345, 99.0) in thin
    assert [step for step, _ in thin] == sorted(step for step, _ in thin)
    assert thinned(points[:500]) == points[:500]


def test_large_numbers_are_written_short() -> None:
    assert [abbreviated(n) for n in (0.2, 500, 1000, 12_345, 999_999, 5_000_000, 2e9)] == [
        "0.2", "500", "1k", "12.3k", "1M", "5M", "2G",
    ]  # fmt: skip


def test_few_places_stand_for_many_and_the_ends_are_among_them() -> None:
    places = log_spaced(80_000)
    assert places[:3] == [0, 1, 2]
    assert places[-1] == 79_999
    assert len(places) <= 300
    assert log_spaced(1) == [0]
    assert log_spaced(0) == []


def test_the_treemap_of_the_paper_is_laid_out_as_there() -> None:
    # Bruls, Huizing, van Wijk, figure 4: areas 6, 6, 4, 3, 2, 2, 1 in a rectangle of 6 x 4.
    places = squarify([6, 6, 4, 3, 2, 2, 1], 6, 4)
    assert [(round(p.x, 2), round(p.y, 2), round(p.width, 2), round(p.height, 2)) for p in places[:4]] == [
        (0, 0, 3, 2),
        (0, 2, 3, 2),
        (3, 0, 1.71, 2.33),
        (4.71, 0, 1.29, 2.33),
    ]


@given(
    sizes=st.lists(st.floats(0.1, 1e4), min_size=1, max_size=40), width=st.integers(1, 999), height=st.integers(1, 999)
)
def test_tiles_fill_the_treemap_in_proportion_and_without_overlap(sizes: list[float], width: int, height: int) -> None:
    sizes.sort(reverse=True)
    places = squarify(sizes, width, height)
    for size, place in zip(sizes, places, strict=True):
        assert place.width * place.height == pytest.approx(size / sum(sizes) * width * height, rel=1e-6)
        assert -1e-6 <= place.x <= place.x + place.width <= width * (1 + 1e-6)
        assert -1e-6 <= place.y <= place.y + place.height <= height * (1 + 1e-6)
    margin = 1e-6 * max(width, height)
    for number, one in enumerate(places):
        for other in places[:number]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert min(across, down) <= margin
