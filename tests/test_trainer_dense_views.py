"""Crops of training and views of evaluation: an image and its mask stay aligned."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.segmentation import COLOURS, scene
from trainer.dense.segment_views import (
    CROP_DRAWS,
    CropRule,
    largest_share,
    random_crop,
    sliding,
    squashed,
    starts,
)

PLAIN = CropRule(16, (1.0, 1.0), 1.0, flip=False)


def flat_scene() -> tuple[Image.Image, np.ndarray]:
    """Draw a scene without noise: the colour of a pixel tells its class."""
    labels = scene(3)[1].astype(np.int16)
    return Image.fromarray(np.array(COLOURS, np.uint8)[labels]), labels


@pytest.mark.parametrize("seed", range(8))
def test_a_crop_of_an_image_and_of_its_mask_show_the_same_place(seed: int) -> None:
    image, labels = flat_scene()
    rule = CropRule(16, (0.5, 3.0), 1.0, flip=True)
    crop = random_crop(image, labels, np.random.default_rng(seed).random(CROP_DRAWS), rule)
    known = crop.labels >= 0
    distances = np.abs(crop.pixels[:, :, None].astype(int) - np.array(COLOURS)[None, None]).sum(3)
    # Pixels between two classes are mixed by scaling.
    assert (distances.argmin(2) == crop.labels)[known].mean() > 0.85
    assert not crop.pixels[~known].any()


def test_a_small_image_is_padded_and_the_padding_is_ignored() -> None:
    image, labels = flat_scene()  # 32 x 24, scaled to 11 x 8
    crop = random_crop(image, labels, np.zeros(CROP_DRAWS), CropRule(16, (0.5, 0.5), 1.0, flip=False))
    assert (crop.labels[:8, :11] >= 0).all()
    assert (crop.labels[8:] == -1).all()
    assert (crop.labels[:, 11:] == -1).all()


def test_the_same_numbers_give_the_same_crop_and_a_mirrored_one_is_mirrored() -> None:
    image, labels = flat_scene()
    draws = np.random.default_rng(0).random(CROP_DRAWS)
    one = random_crop(image, labels, draws, PLAIN)
    again = random_crop(image, labels, draws, PLAIN)
    assert np.array_equal(one.pixels, again.pixels)
    assert np.array_equal(one.labels, again.labels)
    draws[1] = 0.9
    other = random_crop(image, labels, draws, CropRule(16, (1.0, 1.0), 1.0, flip=True))
    assert np.array_equal(other.pixels, one.pixels[:, ::-1])
    assert np.array_equal(other.labels, one.labels[:, ::-1])


def test_a_crop_is_drawn_anew_while_one_class_covers_too_much_of_it() -> None:
    labels = np.zeros((16, 160), np.int16)
    labels[:, 144:152] = 1
    image = Image.fromarray(np.zeros((16, 160, 3), np.uint8))
    draws = np.zeros(CROP_DRAWS)
    draws[2:].reshape(-1, 2)[4:] = 1.0  # the fifth place is the right end
    assert largest_share(random_crop(image, labels, draws, PLAIN).labels) == 1.0
    rule = CropRule(16, (1.0, 1.0), 0.75, flip=False)
    assert largest_share(random_crop(image, labels, draws, rule).labels) == 0.5


def test_the_share_of_a_class_leaves_ignored_pixels_out() -> None:
    assert largest_share(np.array([[-1, -1, -1, 2, 2, 1]], np.int16)) == pytest.approx(2 / 3)
    assert largest_share(np.full((2, 2), -1, np.int16)) == 0


@pytest.mark.parametrize(("length", "wanted"), [(4, [0]), (5, [0, 1]), (7, [0, 3]), (9, [0, 3, 5]), (10, [0, 3, 6])])
def test_windows_cover_a_length_and_end_with_it(length: int, wanted: list[int]) -> None:
    assert starts(length, 4, 3) == wanted


def test_sliding_windows_are_cut_of_the_image_with_its_shorter_side_as_long_as_a_window() -> None:
    image, _ = flat_scene()
    windows = sliding(image, size=12, stride=2 / 3)
    assert (windows.scaled, windows.original) == ((12, 16), (24, 32))
    assert windows.corners == [(0, 0), (0, 4)]
    whole = np.asarray(image.resize((16, 12), Image.Resampling.BILINEAR))
    assert np.array_equal(windows.pixels[1], whole[:, 4:16])


def test_a_very_long_image_has_few_windows() -> None:
    windows = sliding(Image.fromarray(np.zeros((2000, 1, 3), np.uint8)), size=12, stride=2 / 3)
    assert (windows.scaled, windows.original) == ((48, 12), (2000, 1))
    assert [top for top, _ in windows.corners] == [0, 8, 16, 24, 32, 36]


def test_a_squashed_image_is_one_window() -> None:
    image, _ = flat_scene()
    windows = squashed(image, size=12)
    assert windows.pixels.shape == (1, 12, 12, 3)
    assert (windows.scaled, windows.original) == ((12, 12), (24, 32))
