"""Pixels on the device: normalised, mirrored where asked, in the order the model reads them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.model.objective import prepare

pytestmark = pytest.mark.arithmetic


def noise(batch: int, size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, size, size, 3), generator=generator, dtype=torch.uint8)


def plainly(image: Tensor, *, mirrored: bool) -> Tensor:
    """One image, pixel by pixel as it reads."""
    rows = [list(reversed(row)) if mirrored else list(row) for row in image]
    pixels = torch.stack([torch.stack(row) for row in rows])
    return torch.stack([(pixels[:, :, channel].float() - 127.5) / 127.5 for channel in range(3)])


def test_pixels_become_minus_one_to_one() -> None:
    images = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)
    assert prepare(images, None).flatten().tolist() == pytest.approx([-1.0, 1.0, -0.6])


def test_an_image_is_mirrored_left_to_right() -> None:
    images = torch.zeros(2, 2, 2, 3, dtype=torch.uint8)
    images[:, 1, 0, 2] = 255  # lower left, blue
    ready = prepare(images, torch.tensor([True, False]))
    assert ready[0, 2].tolist() == [[-1.0, -1.0], [-1.0, 1.0]]
    assert ready[1, 2].tolist() == [[-1.0, -1.0], [1.0, -1.0]]
    assert (ready[:, :2] == -1).all()


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=5), st.integers(1, 6), st.integers(0, 9))
def test_a_batch_equals_its_images_one_by_one(flips: list[bool], size: int, seed: int) -> None:
    images = noise(len(flips), size, seed)
    ready = prepare(images, torch.tensor(flips, dtype=torch.bool))
    assert ready.dtype == torch.float32
    assert ready.shape == (len(flips), 3, size, size)
    for image, mirrored, one in zip(images, flips, ready, strict=True):
        assert torch.equal(one, plainly(image, mirrored=mirrored))


def test_every_byte_has_the_value_it_had_in_the_model() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert torch.equal(prepare(levels, None), (levels.permute(0, 3, 1, 2).float() - 127.5) / 127.5)


def test_no_flags_is_the_same_as_no_flag_set() -> None:
    images = noise(3, 4)
    assert torch.equal(prepare(images, None), prepare(images, torch.zeros(3, dtype=torch.bool)))


@pytest.mark.parametrize("flips", [None, torch.tensor([True, False, True])])
def test_the_result_lies_in_memory_channels_last(flips: Tensor | None) -> None:
    ready = prepare(noise(3, 4), flips)
    assert ready.is_contiguous(memory_format=torch.channels_last)


def test_the_bytes_that_came_in_are_left_alone() -> None:
    images = noise(2, 4)
    before = images.clone()
    prepare(images, torch.tensor([True, True]))
    assert torch.equal(images, before)


def test_no_shape_depends_on_the_flags() -> None:
    # Tensors without data: whatever asks the host for a value fails on them.
    images = torch.empty(4, 8, 8, 3, dtype=torch.uint8, device="meta")
    assert prepare(images, torch.empty(4, dtype=torch.bool, device="meta")).shape == (4, 3, 8, 8)
