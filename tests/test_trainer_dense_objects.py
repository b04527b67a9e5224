"""Views of images: pixels, boxes and masks that are scaled, cut and mirrored together."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import masks_to_boxes

from trainer.data.images import BadImage
from trainer.data.labelled_images import LabelledImages
from trainer.dense.annotated_images import AnnotatedImages
from trainer.dense.objects import DRAWS, MASK_SIDE, ImageView, Jitter, Viewer, bounds, objects_in, view_of
from trainer.dense.shapes import RunLengths, common, mask_of

WHOLE = Jitter(1.0, 1.0, squash=False, flip=False)
LARGE = Jitter(0.1, 2.0, squash=False, flip=True)


class NoStore:
    """A store that nothing is read from."""

    def open(self) -> None:  # pragma: no cover
        raise AssertionError


def run_lengths(mask: np.ndarray) -> RunLengths:
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return RunLengths(np.concatenate([[0], counts]) if flat[0] else counts)


def annotated(masks: list[np.ndarray], *, crowds: tuple[bool, ...] | None = None) -> AnnotatedImages:
    """One image with an object for each mask."""
    height, width = masks[0].shape
    count = len(masks)
    images = LabelledImages(
        store=NoStore(),  # type: ignore[arg-type]
        rows=np.zeros(1, np.int64),
        names=("a.png",),
        offsets=np.array([0, count]),
        classes=np.arange(count),
        labels=tuple(map(str, range(count))),
        multi_label=True,
        fingerprint="",
    )
    return AnnotatedImages(
        images=images,
        sizes=np.array([[width, height]]),
        ids=(1,),
        categories=tuple(range(count)),
        offsets=np.array([0, count]),
        boxes=np.array([box_of(mask) for mask in masks], np.float32),
        classes=np.arange(count),
        areas=np.array([float(mask.sum()) for mask in masks]),
        crowds=np.array(crowds or (False,) * count),
        shapes=tuple(run_lengths(mask) for mask in masks),
        left_out={},
    )


def box_of(mask: np.ndarray) -> list[float]:
    rows, columns = np.nonzero(mask)
    return [float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)]


def ellipse(width: int, height: int, *, seed: int) -> np.ndarray:
    draws = np.random.default_rng(seed)
    across, down = draws.uniform(0.2, 0.8, 2) * (width, height)
    wide, high = draws.uniform(0.1, 0.4, 2) * (width, height)
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    mask: np.ndarray = (((columns - across) / wide) ** 2 + ((rows - down) / high) ** 2 < 1).astype(np.uint8)
    return mask


def test_the_longer_side_fills_the_square_in_evaluation() -> None:
    view = view_of(200, 100, size=64, jitter=WHOLE, draws=np.zeros(DRAWS))
    assert view == ImageView((0.0, 0.0, 200.0, 100.0), 64, 32, mirrored=False)
    assert view.to_input(np.array([[0, 0, 200, 100]], np.float32)).tolist() == [[0, 0, 64, 32]]


def test_a_squashed_image_fills_the_square() -> None:
    view = view_of(200, 100, size=64, jitter=Jitter(1.0, 1.0, squash=True, flip=False), draws=np.zeros(DRAWS))
    assert (view.width, view.height) == (64, 64)


def test_a_large_scale_cuts_a_part_and_a_small_one_leaves_room() -> None:
    large = view_of(
        200, 100, size=64, jitter=Jitter(2.0, 2.0, squash=False, flip=False), draws=np.array([0, 0.5, 0, 0])
    )
    assert large == ImageView((50.0, 0.0, 150.0, 100.0), 64, 64, mirrored=False)
    small = view_of(200, 100, size=64, jitter=Jitter(0.5, 0.5, squash=False, flip=False), draws=np.zeros(DRAWS))
    assert (small.width, small.height) == (32, 16)


def test_a_view_that_is_not_cut_ends_at_the_edges_of_its_image() -> None:
    for width in range(20, 700, 7):
        for factor in (0.1, 0.37, 1.0):
            jitter = Jitter(factor, factor, squash=False, flip=False)
            view = view_of(width, 333, size=640, jitter=jitter, draws=np.full(DRAWS, 0.3))
            assert view.part == (0.0, 0.0, float(width), 333.0)


def test_boxes_come_back_from_the_input() -> None:
    draws = np.random.default_rng(0)
    for _ in range(100):
        view = view_of(150, 90, size=64, jitter=LARGE, draws=draws.random(DRAWS))
        boxes = draws.uniform(0, 90, (5, 4)).astype(np.float32)
        assert np.allclose(view.to_image(view.to_input(boxes)), boxes, atol=1e-2)


def test_a_mirrored_box_keeps_left_before_right() -> None:
    view = ImageView((0.0, 0.0, 100.0, 100.0), 50, 50, mirrored=True)
    assert view.to_input(np.array([[10, 20, 30, 40]], np.float32)).tolist() == [[35, 10, 45, 20]]


@pytest.mark.parametrize("seed", range(12))
def test_boxes_of_a_jittered_view_are_those_of_its_masks(seed: int) -> None:
    """The masks of the whole image, cut and scaled as pixels are, tell the same boxes up to two pixels."""
    masks = [ellipse(160, 120, seed=10 * seed + number) for number in range(3)]
    data = annotated(masks)
    view = view_of(160, 120, size=96, jitter=LARGE, draws=np.random.default_rng(seed).random(DRAWS))
    seen = objects_in(data, 0, view, masks=True)
    scale = view.width / (view.part[2] - view.part[0])
    kept = []
    for number, mask in enumerate(masks):
        scaled = np.asarray(
            Image.fromarray(mask * 255).resize((view.width, view.height), Image.Resampling.BILINEAR, box=view.part)
        )
        pixels = (scaled[:, ::-1] if view.mirrored else scaled) >= 128
        if number in seen.classes:
            kept.append(number)
            box = seen.boxes[seen.classes.tolist().index(number)]
            wanted = masks_to_boxes(torch.from_numpy(pixels.copy())[None])[0] + torch.tensor([0, 0, 1, 1])
            assert np.abs(box - wanted.numpy()).max() <= 1 + scale
        else:
            assert pixels.sum() <= 4
    assert seen.classes.tolist() == kept
    assert seen.masks is not None
    assert seen.masks.shape == (len(kept), MASK_SIDE, MASK_SIDE)


def test_a_mask_inside_its_box_is_mirrored_with_the_view() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = 1
    mask[10:30, 10:14] = 1
    data = annotated([mask])
    plain = objects_in(data, 0, ImageView((0.0, 0.0, 40.0, 40.0), 40, 40, mirrored=False), masks=True)
    turned = objects_in(data, 0, ImageView((0.0, 0.0, 40.0, 40.0), 40, 40, mirrored=True), masks=True)
    assert plain.masks is not None
    assert turned.masks is not None
    assert np.array_equal(plain.masks[0], turned.masks[0][:, ::-1])
    assert plain.boxes.tolist() == [[10, 10, 20, 30]]
    assert turned.boxes.tolist() == [[20, 10, 30, 30]]


def test_crowds_and_what_the_view_does_not_show_are_no_objects() -> None:
    left, right = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    left[5:15, 2:12], right[5:15, 28:38] = 1, 1
    data = annotated([left, right, left], crowds=(False, False, True))
    seen = objects_in(data, 0, ImageView((0.0, 0.0, 20.0, 40.0), 20, 40, mirrored=False), masks=True)
    assert (seen.classes.tolist(), seen.boxes.tolist()) == ([0], [[2, 5, 12, 15]])


def test_an_object_that_becomes_smaller_than_a_pixel_is_left_out() -> None:
    mask = np.zeros((400, 400), np.uint8)
    mask[0:3, 0:300] = 1
    assert (
        len(
            objects_in(
                annotated([mask]), 0, ImageView((0.0, 0.0, 400.0, 400.0), 40, 40, mirrored=False), masks=True
            ).boxes
        )
        == 0
    )


def test_without_masks_a_box_is_cut_where_the_view_ends() -> None:
    mask = np.eye(40, dtype=np.uint8)
    seen = objects_in(annotated([mask]), 0, ImageView((0.0, 0.0, 40.0, 20.0), 40, 20, mirrored=False), masks=False)
    assert (seen.boxes.tolist(), seen.masks) == ([[0, 0, 40, 20]], None)
    with_masks = objects_in(annotated([mask]), 0, ImageView((0.0, 0.0, 40.0, 20.0), 40, 20, mirrored=False), masks=True)
    assert with_masks.boxes.tolist() == [[0, 0, 20, 20]]


def test_the_bounds_of_a_mask_in_a_region() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[3:6, 2:9] = 1
    assert bounds(mask, (0.0, 0.0, 5.5, 10.0)) == (2.0, 3.0, 5.5, 6.0)
    assert bounds(mask, (0.0, 7.0, 10.0, 10.0)) is None
    assert common((0, 0, 5, 5), (5, 0, 9, 9)) is None


def test_run_lengths_of_these_tests_give_their_mask_back() -> None:
    for seed in range(5):
        mask = ellipse(30, 20, seed=seed)
        assert np.array_equal(mask_of(run_lengths(mask), width=30, height=20), mask)


def jpeg_of(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 200, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_rest_of_the_square_has_the_background() -> None:
    data = annotated([np.ones((16, 32), np.uint8)])
    viewer = Viewer(32, (1, 2, 3), 1 << 20, take_truncated=False)
    view = view_of(32, 16, size=32, jitter=WHOLE, draws=np.zeros(DRAWS))
    pixels = viewer.pixels(data, lambda _: jpeg_of(32, 16), 0, view)
    assert (pixels[:16] == 200).all()
    assert (pixels[16:] == (1, 2, 3)).all()


def test_an_image_of_another_size_than_the_annotations_tell_is_bad() -> None:
    data = annotated([np.ones((16, 32), np.uint8)])
    viewer = Viewer(32, (0, 0, 0), 1 << 20, take_truncated=False)
    with pytest.raises(BadImage, match="other_size"):
        viewer.pixels(data, lambda _: jpeg_of(32, 17), 0, ImageView((0, 0, 32, 16), 32, 16, mirrored=False))
