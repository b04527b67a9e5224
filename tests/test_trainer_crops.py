"""Crops: boxes inside the image, with the areas and shapes that the recipe promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.crops import Box, centre_box, on_grid, random_box

LAST = 1 - 2**-53
SIDES = st.integers(1, 65_535)


def even(share: float, ratio: float = 0.5, place: float = 0.5) -> np.ndarray:
    return np.array([share] * 10 + [ratio] * 10 + [place] * 2, np.float64)


def inside(box: Box, width: int, height: int) -> bool:
    left, top, across, down = box
    return left >= 0 and top >= 0 and across >= 1 and down >= 1 and left + across <= width and top + down <= height


@pytest.mark.parametrize(
    ("draws", "box"),
    [
        pytest.param(even(LAST), (0, 0, 100, 100), id="all of it"),
        pytest.param(even(0, place=0), (0, 0, 28, 28), id="the smallest, in the corner"),
        pytest.param(even(0, place=LAST), (72, 72, 28, 28), id="the smallest, in the other corner"),
        pytest.param(even(0, ratio=0, place=0), (0, 0, 24, 33), id="upright"),
        pytest.param(even(0, ratio=LAST, place=0), (0, 0, 33, 24), id="lying"),
        pytest.param(
            np.array([LAST] * 9 + [0.5] + [0] * 9 + [0.5] + [0.5, 0.5]), (14, 14, 73, 73), id="only the last try fits"
        ),
    ],
)
def test_a_random_box_is_what_its_draws_say(draws: np.ndarray, box: Box) -> None:
    assert random_box(100, 100, draws, min_area=0.08) == box


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [(30_000, 100, (14_933, 0, 133, 100)), (3, 900, (0, 448, 3, 4)), (1, 30_000, (0, 14_999, 1, 1))],
)
def test_of_too_long_an_image_the_middle_is_taken(width: int, height: int, box: Box) -> None:
    assert random_box(width, height, even(0.9), min_area=0.08) == box


def test_areas_are_uniform_and_ratios_log_uniform() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(3000, 3000, row, min_area=0.1) for row in rng.random((4000, 22))])
    # Below 0.7 of the area every aspect ratio fits, so that none was turned down; above it there are fewer.
    areas = boxes[:, 2] * boxes[:, 3] / 9e6
    ratios = np.log(boxes[:, 2] / boxes[:, 3])[areas < 0.7]
    counts = np.histogram(areas, [0.1, 0.3, 0.5, 0.7])[0]
    assert (counts / counts.mean()).tolist() == pytest.approx([1, 1, 1], abs=0.1)
    edges = np.linspace(-math.log(4 / 3), math.log(4 / 3), 5)
    assert (np.histogram(ratios, edges)[0] / len(ratios)).tolist() == pytest.approx([0.25] * 4, abs=0.03)
    free = 3000 - boxes[:, 2]
    assert (boxes[:, 0] / np.maximum(free, 1)).mean() == pytest.approx(0.5, abs=0.02)


@given(
    width=SIDES, height=SIDES, min_area=st.floats(0.01, 1), draws=st.lists(st.floats(0, LAST), min_size=22, max_size=22)
)
def test_a_random_box_lies_in_the_image(width: int, height: int, min_area: float, draws: list[float]) -> None:
    assert inside(random_box(width, height, np.array(draws), min_area=min_area), width, height)


@pytest.mark.parametrize(
    ("width", "height", "share", "box"),
    [
        (256, 256, 0.875, (16, 16, 224, 224)),
        (257, 300, 0.875, (16, 37, 225, 225)),
        (100, 61, 1.0, (19, 0, 61, 61)),
        (1, 30_000, 0.5, (0, 14_999, 1, 1)),
    ],
)
def test_a_centre_box_is_the_middle_square(width: int, height: int, share: float, box: Box) -> None:
    assert centre_box(width, height, share=share) == box


@given(width=SIDES, height=SIDES, share=st.floats(0.001, 1))
def test_a_centre_box_lies_in_the_image(width: int, height: int, share: float) -> None:
    assert inside(centre_box(width, height, share=share), width, height)


@pytest.mark.parametrize(
    ("box", "moved", "step"),
    [
        pytest.param((7, 9, 199, 500), (7, 9, 199, 500), 1, id="too small"),
        pytest.param((7, 9, 200, 500), (8, 10, 200, 500), 2, id="half"),
        pytest.param((601, 406, 399, 399), (602, 406, 398, 398), 2, id="half, at the far corner"),
        pytest.param((399, 399, 401, 401), (400, 400, 400, 400), 4, id="quarter"),
        pytest.param((0, 0, 1000, 805), (0, 0, 1000, 800), 8, id="eighth"),
    ],
)
def test_a_large_box_has_its_edges_on_the_grid(box: Box, moved: Box, step: int) -> None:
    assert on_grid(box, 1000, 805, size=100) == (moved, step)


@given(data=st.data(), width=st.integers(1, 2000), height=st.integers(1, 2000), size=st.integers(1, 300))
def test_a_box_on_the_grid_is_nearly_the_same_and_large_enough(
    data: st.DataObject, width: int, height: int, size: int
) -> None:
    across, down = data.draw(st.integers(1, width)), data.draw(st.integers(1, height))
    box = data.draw(st.integers(0, width - across)), data.draw(st.integers(0, height - down)), across, down
    moved, step = on_grid(box, width, height, size=size)
    assert inside(moved, width, height)
    assert step == max([1, *(k for k in (2, 4, 8) if across >= k * size and down >= k * size)])
    if step == 1:
        assert moved == box
        return
    assert [edge % step for edge in moved] == [0, 0, 0, 0]
    assert min(moved[2:]) >= step * size
    for start, length in ((0, 2), (1, 3)):
        assert 0 <= box[length] - moved[length] < step
        shift = abs((moved[start] + moved[length] / 2) - (box[start] + box[length] / 2))
        assert shift <= step
