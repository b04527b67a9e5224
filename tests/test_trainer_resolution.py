"""Which image size and how many images a step has."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import DataConfig
from trainer.data.resolution import (
    FixedResolution,
    Resolution,
    ScheduledResolution,
    StepShape,
    VariableResolution,
    grain,
    parse_schedule,
    resolution_of,
)
from vocab.errors import InputError

CATLIP = VariableResolution(tuple(range(128, 321, 16)), base_size=224, batch=65_536, multiple=64, seed=0)
OPTIONS: dict[str, Any] = {
    "batch_size": 64,
    "resolution_schedule": "0:112,0.5:160,0.8:224",
    "resolution_sizes": (128, 320, 16),
}


def asked(kind: Any, *, steps: int = 100, multiple: int = 8, **options: Any) -> Resolution:
    """Make the resolution of a run of patches of 16 pixels."""
    data = DataConfig(resolution=kind, **OPTIONS | options)
    return resolution_of(data, steps=steps, multiple=multiple, seed=0, patch=16)


def test_a_fixed_resolution_is_the_same_in_every_step() -> None:
    resolution = asked("fixed")
    assert resolution == FixedResolution(224, 64)
    assert resolution.at(0) == resolution.at(99) == StepShape(224, 64)
    assert resolution.shapes() == (StepShape(224, 64),)


@pytest.mark.parametrize(
    ("step", "size"), [(0, 112), (49, 112), (50, 160), (79, 160), (80, 224), (99, 224), (500, 224)]
)
def test_a_schedule_changes_at_its_shares_of_training(step: int, size: int) -> None:
    resolution = asked("schedule")
    assert resolution.at(step) == StepShape(size, 64)
    assert resolution.shapes() == (StepShape(112, 64), StepShape(160, 64), StepShape(224, 64))


def test_a_phase_shorter_than_a_step_is_passed_over() -> None:
    resolution = ScheduledResolution(((0.0, 96), (0.5, 112), (0.51, 160), (0.999, 224)), batch=4, steps=10)
    assert [resolution.at(step).size for step in range(10)] == [96] * 5 + [160] * 5
    assert [shape.size for shape in resolution.shapes()] == [96, 160]


@settings(deadline=None)
@given(
    st.integers(1, 60), st.sampled_from(["0:16", "0:16,0.3:32", "0:48,0.1:16,0.7:32,0.9:48", "0:16,0.5:32,0.5001:64"])
)
def test_the_shapes_of_a_schedule_are_those_of_its_steps(steps: int, schedule: str) -> None:
    resolution = asked("schedule", steps=steps, resolution_schedule=schedule)
    assert set(resolution.shapes()) == {resolution.at(step) for step in range(steps)}


def test_smaller_images_come_in_larger_batches() -> None:
    # batch x 224^2 / size^2, to the nearest multiple of 64.
    assert CATLIP.shapes() == (
        StepShape(128, 200_704),
        StepShape(144, 158_592),
        StepShape(160, 128_448),
        StepShape(176, 106_176),
        StepShape(192, 89_216),
        StepShape(208, 76_032),
        StepShape(224, 65_536),
        StepShape(240, 57_088),
        StepShape(256, 50_176),
        StepShape(272, 44_416),
        StepShape(288, 39_616),
        StepShape(304, 35_584),
        StepShape(320, 32_128),
    )


def test_a_step_has_the_same_number_of_pixels_within_a_thousandth() -> None:
    base = 65_536 * 224**2
    assert all(abs(shape.batch * shape.size**2 / base - 1) < 0.001 for shape in CATLIP.shapes())


def test_the_mean_batch_is_larger_than_that_of_the_base_size() -> None:
    # All sizes are equally likely, and 1 / size^2 is convex.
    expected = sum(shape.batch for shape in CATLIP.shapes()) / 13
    assert expected / 65_536 == pytest.approx(1.272, abs=0.001)
    drawn = sum(CATLIP.at(step).batch for step in range(2000)) / 2000
    assert drawn / expected == pytest.approx(1, abs=0.05)


def test_every_size_is_as_likely_as_another() -> None:
    counts = Counter(CATLIP.at(step).size for step in range(2600))
    assert set(counts) == set(range(128, 321, 16))
    assert all(150 < count < 250 for count in counts.values())


def test_seed_and_step_alone_decide_a_size() -> None:
    drawn = [CATLIP.at(step).size for step in range(16)]
    assert drawn == [160, 208, 176, 288, 208, 176, 272, 320, 224, 192, 192, 304, 176, 256, 224, 224]
    assert [CATLIP.at(step).size for step in reversed(range(16))] == drawn[::-1]
    other = VariableResolution(CATLIP.sizes, base_size=224, batch=65_536, multiple=64, seed=1)
    assert [other.at(step).size for step in range(16)] != drawn


@settings(deadline=None)
@given(st.integers(1, 64), st.integers(1, 9), st.integers(8, 64), st.integers(0, 2**64), st.integers(0, 10**9))
def test_a_batch_is_the_nearest_multiple_and_not_nothing(
    parts: int, multiple: int, base: int, seed: int, step: int
) -> None:
    batch = parts * multiple
    resolution = VariableResolution((8, 16, 24, 48, 96), base, batch, multiple, seed)
    shape = resolution.at(step)
    assert shape in resolution.shapes()
    exact = batch * base**2 / shape.size**2
    assert shape.batch % multiple == 0
    assert shape.batch >= multiple
    assert abs(shape.batch - exact) <= multiple / 2 or (shape.batch == multiple and exact < multiple)


def test_the_base_size_keeps_its_batch() -> None:
    resolution = asked("variable")
    assert {shape.size: shape.batch for shape in resolution.shapes()}[224] == 64
    assert resolution.shapes()[0] == StepShape(128, 200)
    assert resolution.shapes()[-1] == StepShape(320, 32)


def test_a_schedule_is_read_from_its_text() -> None:
    assert parse_schedule("0:112,0.5:160,0.8:224") == ((0.0, 112), (0.5, 160), (0.8, 224))
    assert parse_schedule(" 0 : 64 , .25 : 96") == ((0.0, 64), (0.25, 96))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "''"),
        ("224", "'224'"),
        ("0:112,", "''"),
        ("0:112,half:224", "'half:224'"),
        ("0:112.5", "'0:112.5'"),
        ("0:1:2", "'0:1:2'"),
        ("0.1:112", "shares 0.1"),
        ("0:112,0.5:160,0.5:224", "shares 0, 0.5, 0.5"),
        ("0:112,1:224", "shares 0, 1"),
        ("0:112,nan:224", "shares 0, nan"),
        ("nan:112", "shares nan"),
        ("0:112,inf:224", "shares 0, inf"),
        ("0:0", "0"),
        ("0:112,0.5:-16", "-16"),
        (",".join(f"0.{place:03}:16" for place in range(65)), "65 sizes"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(text: str, found: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_schedule(text)
    assert refused.value.thing == "--resolution-schedule"
    assert refused.value.found == found


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "fixed",
            {"image_size": 225},
            "--image-size: found 225; wanted a multiple of the patch, 16. Choose 224 or 240",
        ),
        ("fixed", {"image_size": 0}, "--image-size: found 0; wanted more than 0"),
        ("fixed", {"batch_size": 12}, "--batch-size: found 12; wanted a multiple of 8. Choose 16"),
        (
            "schedule",
            {"resolution_schedule": "0:100"},
            "--resolution-schedule: found 100; wanted a multiple of the patch, 16",
        ),
        ("schedule", {"resolution_schedule": ""}, "--resolution-schedule: found ''; wanted SHARE:SIZE"),
        (
            "variable",
            {"resolution_sizes": (128, 320, 8)},
            "--resolution-sizes: found 136; wanted a multiple of the patch, 16",
        ),
        ("variable", {"resolution_sizes": (128, 320, 50)}, "--resolution-sizes: found 128 to 320 by 50"),
        ("variable", {"resolution_sizes": (0, 320, 16)}, "--resolution-sizes: found 0 to 320 by 16"),
        ("variable", {"resolution_sizes": (320, 128, 16)}, "--resolution-sizes: found 320 to 128 by 16"),
        ("variable", {"resolution_sizes": (128, 320, 0)}, "--resolution-sizes: found 128 to 320 by 0"),
        (
            "variable",
            {"resolution_sizes": (1, 10**9, 1)},
            "--resolution-sizes: found 1000000000 sizes; wanted at most 64",
        ),
        ("variable", {"image_size": 230}, "--image-size: found 230; wanted a multiple of the patch, 16"),
    ],
)
def test_options_that_cannot_work_are_refused(kind: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        asked(kind, **change)
    assert message in str(refused.value)


def test_variable_batches_are_the_same_for_all_numbers_of_processes_that_divide_a_64th() -> None:
    def batches(batch: int, multiple: int) -> list[int]:
        found = asked("variable", resolution_sizes=(128, 320, 64), batch_size=batch, multiple=multiple)
        return [shape.batch for shape in found.shapes()]

    assert batches(65_536, 1) == batches(65_536, 64) == batches(65_536, 1024) == [200_704, 89_088, 50_176, 31_744]
    assert [grain(batch) for batch in (1, 63, 64, 192, 2048, 65_536, 67 * 64)] == [1, 1, 1, 3, 32, 1024, 67]
    # A small batch has no such part, and is rounded to what can be shared.
    assert batches(48, 2) == [148, 66, 36, 24]
    assert batches(48, 16) == [144, 64, 32, 16]
