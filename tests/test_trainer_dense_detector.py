"""The detector: pyramid, windows of attention, the choice of anchors, losses, and masks inside boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from trainer.dense.detect_evaluation import pasted
from trainer.dense.detect_objective import detection_flops
from trainer.dense.maps import FeatureMaps, MapSpec
from trainer.dense.mask_rcnn import MASK_SIDE, BoxRows, Detector, HeadSizes, ObjectTargets, mask_targets
from trainer.dense.pyramid import Pyramid
from trainer.dense.sampling import SeededSampler
from trainer.dense.windows import WindowedAttention, from_windows, global_blocks, to_windows, use_windows
from trainer.model.per_image import install
from trainer.transfer.detect import blocks_for_pyramid
from vocab.errors import InputError

SMALL = HeadSizes(width=16, convolutions=1, proposals=50, boxes=32)


def backbone(**given: Any) -> FeatureMaps:
    torch.manual_seed(0)
    sizes = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "num_heads": 3, "depth": 2, **given}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, **sizes)
    install(model)
    return FeatureMaps(model, size=sizes["img_size"])


def detector(*, masks: bool = True) -> Detector:
    torch.manual_seed(0)
    return Detector(backbone(), classes=3, sizes=SMALL, masks=masks, top_down=False)


def objects(*boxes: list[float]) -> ObjectTargets:
    count = len(boxes)
    masks = torch.full((count, 112, 112), 255, dtype=torch.uint8)
    return ObjectTargets(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.arange(count) % 3, masks)


SEEDS, WEIGHTS = torch.tensor([3, 7]), torch.ones(2)
PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
OBJECTS = [objects([4, 4, 40, 40], [20, 10, 60, 60]), objects([8, 8, 30, 50])]


def test_the_pyramid_of_one_map_has_five_strides() -> None:
    pyramid = Pyramid([MapSpec(11, 48, 16)], width=8, top_down=False)
    assert pyramid.strides == (4, 8, 16, 32, 64)
    assert [tuple(level.shape) for level in pyramid([torch.zeros(2, 48, 4, 4)])] == [
        (2, 8, 16, 16), (2, 8, 8, 8), (2, 8, 4, 4), (2, 8, 2, 2), (2, 8, 1, 1),
    ]  # fmt: skip


def test_the_pyramid_of_stages_has_their_strides_and_one_more() -> None:
    specs = [MapSpec(number, 8 << number, 4 << number) for number in range(4)]
    pyramid = Pyramid(specs, width=6, top_down=True)
    maps = [torch.zeros(1, 8 << number, 16 >> number, 16 >> number) for number in range(4)]
    assert pyramid.strides == (4, 8, 16, 32, 64)
    assert [level.shape[2] for level in pyramid(maps)] == [16, 8, 4, 2, 1]


def test_a_top_down_path_tells_the_finest_map_of_the_coarsest() -> None:
    specs = [MapSpec(number, 4, 4 << number) for number in range(3)]
    for top_down in (False, True):
        torch.manual_seed(0)
        pyramid = Pyramid(specs, width=4, top_down=top_down).eval()
        maps = [torch.zeros(1, 4, 8 >> number, 8 >> number) for number in range(3)]
        changed = [*maps[:2], torch.randn(1, 4, 2, 2)]
        assert torch.equal(pyramid(maps)[0], pyramid(changed)[0]) is not top_down


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("cait_xxs24_224", [-1]), ("eva02_tiny_patch14_224", [-1]), ("resnet18", [1, 2, 3, 4])],
)
def test_a_pyramid_begins_with_one_map_where_all_have_the_same_stride(name: str, blocks: list[int]) -> None:
    assert blocks_for_pyramid(timm.create_model(name, num_classes=0)) == blocks


def test_windows_come_together_again() -> None:
    patches = torch.randn(2, 5 * 7, 3)
    windows = to_windows(patches, grid=(5, 7), window=3)
    assert windows.shape == (2 * 2 * 3, 9, 3)
    assert torch.equal(windows[0, :3], patches[0, :3])
    assert torch.equal(from_windows(windows, grid=(5, 7), window=3), patches)


def test_windowed_attention_is_global_attention_behind_a_mask() -> None:
    attention = timm.layers.Attention(24, num_heads=3, qkv_bias=True)
    windowed = WindowedAttention(attention, grid=(4, 6), prefix=1, window=2)
    tokens = torch.randn(2, 1 + 24, 24)
    rows, columns = torch.arange(24) // 6 // 2, torch.arange(24) % 6 // 2
    together = (rows[:, None] == rows) & (columns[:, None] == columns)
    wanted = attention(tokens[:, 1:], attn_mask=together)
    found = windowed(tokens)
    assert torch.allclose(found[:, 1:], wanted, atol=1e-6)
    assert (found[:, 0] == 0).all()


def test_four_blocks_see_the_whole_image() -> None:
    assert global_blocks(12) == {2, 5, 8, 11}
    assert global_blocks(24) == {5, 11, 17, 23}
    assert global_blocks(2) == {0, 1}


def test_windows_leave_the_names_of_weights_and_the_last_block_as_they_are() -> None:
    own = backbone(depth=6)
    names = list(own.state_dict())
    use_windows(own.model, window=2)
    assert list(own.state_dict()) == names
    windowed = [type(block.attn) is WindowedAttention for block in own.model.blocks]
    assert windowed == [False, True, False, False, True, False]
    assert own(PIXELS)[0].shape == (2, 48, 4, 4)


def test_windows_are_for_plain_transformers() -> None:
    model = timm.create_model("resnet18", num_classes=3)
    with pytest.raises(InputError, match="windows for resnet18; wanted a plain vision transformer"):
        use_windows(model)


def test_an_image_gets_the_same_anchors_alone_and_in_any_batch() -> None:
    labels = [torch.tensor([1.0, 0, 0, -1, 1, 0, 1, 0, 1]), torch.tensor([0.0] * 9)]
    sampler = SeededSampler(4, positive_share=0.5, stream=1)
    sampler.set(torch.tensor([5, 9]), torch.ones(2))
    positives, negatives = sampler(labels)
    assert [int(each.sum()) for each in (*positives, *negatives)] == [2, 0, 2, 4]
    assert not (positives[0] & (labels[0] != 1)).any()
    assert not (negatives[0] & (labels[0] != 0)).any()
    sampler.set(torch.tensor([9, 5]), torch.ones(2))
    turned, _ = sampler(labels[::-1])
    assert torch.equal(turned[1], positives[0])
    sampler.set(torch.tensor([6, 9]), torch.ones(2))
    others = [sampler(labels)[0][0]]
    for seed in range(10, 20):
        sampler.set(torch.tensor([seed, 9]), torch.ones(2))
        others.append(sampler(labels)[0][0])
    assert any(not torch.equal(each, positives[0]) for each in others)


def test_of_an_image_without_weight_nothing_is_learnt() -> None:
    model = detector()
    alone = model.losses(PIXELS[:1], OBJECTS[:1], SEEDS[:1], WEIGHTS[:1])
    beside = model.losses(PIXELS, [OBJECTS[0], objects()], SEEDS, torch.tensor([1.0, 0.0]))
    for name, value in alone.items():
        assert torch.allclose(value, beside[name] * 2, atol=1e-5), name


@pytest.mark.parametrize("second", [objects(), OBJECTS[1]])
def test_every_loss_of_a_batch_is_the_mean_of_those_of_its_images(second: ObjectTargets) -> None:
    model, own = detector(), [OBJECTS[0], second]
    together = model.losses(PIXELS, own, SEEDS, WEIGHTS)
    parts = [slice(0, 1), slice(1, 2)]
    alone = [model.losses(PIXELS[each], own[each], SEEDS[each], WEIGHTS[each]) for each in parts]
    assert "masks" in together
    for name, value in together.items():
        assert torch.allclose(value, (alone[0][name] + alone[1][name]) / 2, atol=1e-5), name


def test_parameters_that_timm_spares_from_decay_are_spared_in_the_detector() -> None:
    spared = detector().no_weight_decay()
    assert {"backbone.model.pos_embed", "backbone.model.cls_token"} <= spared


def test_losses_are_a_function_of_seeds_and_not_of_the_process_s_random_state() -> None:
    model = detector()
    first = model.losses(PIXELS, OBJECTS, SEEDS, WEIGHTS)
    torch.manual_seed(99)
    again = model.losses(PIXELS, OBJECTS, SEEDS, WEIGHTS)
    other = model.losses(PIXELS, OBJECTS, SEEDS + 1, WEIGHTS)
    assert {name: value.item() for name, value in first.items()} == {
        name: value.item() for name, value in again.items()
    }
    assert first["loss_objectness"].item() != other["loss_objectness"].item()


@pytest.mark.parametrize("weights", [torch.ones(2), torch.zeros(2)])
def test_a_batch_without_any_object_has_finite_losses_and_gradients(weights: Tensor) -> None:
    model = detector()
    losses = model.losses(PIXELS, [objects(), objects()], SEEDS, weights)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert losses["masks"].item() == 0
    assert total.isfinite()
    assert (total.item() > 0) is bool(weights.sum() > 0)
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    # Every one has a gradient: DDP waits for those of all.
    assert [name for name, parameter in learning.items() if parameter.grad is None] == []
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learning.values())


def test_ten_times_as_many_objects_as_the_heads_take_are_learnt_from_in_parts() -> None:
    draws = torch.Generator().manual_seed(0)
    corners = torch.rand(10 * SMALL.boxes, 2, generator=draws) * 40
    boxes = torch.cat([corners, corners + 4 + 16 * torch.rand(len(corners), 2, generator=draws)], dim=1)
    many = ObjectTargets(
        boxes, torch.arange(len(boxes)) % 3, torch.full((len(boxes), 112, 112), 255, dtype=torch.uint8)
    )
    losses = detector().losses(PIXELS[:1], [many], SEEDS[:1], WEIGHTS[:1])
    assert all(value.isfinite() for value in losses.values())


def test_a_detector_without_masks_is_a_faster_rcnn() -> None:
    model = detector(masks=False)
    plain = [ObjectTargets(own.boxes, own.classes, None) for own in OBJECTS]
    assert sorted(model.losses(PIXELS, plain, SEEDS, WEIGHTS)) == [
        "boxes",
        "classes",
        "loss_objectness",
        "loss_rpn_box_reg",
    ]
    with torch.no_grad():
        assert model.eval().detect(PIXELS)[0].masks is None


def test_detections_come_best_first_with_masks_of_their_class() -> None:
    model = detector().eval()
    with torch.no_grad():
        found = model.detect(PIXELS)
    assert len(found) == 2
    for each in found:
        assert each.masks is not None
        assert each.masks.shape[1:] == (MASK_SIDE, MASK_SIDE)
        assert len(each.scores) == len(each.boxes) == len(each.masks) <= 100
        assert (each.scores.diff() <= 0).all()
        assert ((each.classes >= 0) & (each.classes < 3)).all()


def test_rows_add_the_logits_of_the_backbones_mean_inside_a_box() -> None:
    rows = BoxRows(2, 3, stride=8)
    last = torch.zeros(1, 2, 8, 8)
    last[0, 0, :, :4], last[0, 1, :, 4:] = 1.0, 5.0
    boxes = [torch.tensor([[0.0, 0, 24, 64], [40, 8, 64, 56]])]
    assert torch.allclose(rows.features(last, boxes), torch.tensor([[1.0, 0], [0, 5]]))
    logits = rows(last, boxes)
    assert torch.equal(logits[:, 0], torch.zeros(2))
    assert torch.allclose(logits[0, 1:], rows.linear.weight[:, 0] + rows.linear.bias)


@pytest.mark.parametrize(("windows", "operations"), [(False, 5.81e12), (True, 4.74e12)])
def test_a_training_image_of_vit_b_has_the_operations_of_the_recipes(*, windows: bool, operations: float) -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224", img_size=1024, num_classes=1)
        install(model)
        maps = FeatureMaps(model, size=1024)
        if windows:
            use_windows(maps.model)
        whole = Detector(maps, classes=80, sizes=HeadSizes(), masks=True, top_down=False)
    assert detection_flops(whole, HeadSizes(), size=1024) == pytest.approx(operations, rel=0.01)


def test_the_mask_of_a_proposal_is_what_torchvision_cuts_out_of_the_whole_mask() -> None:
    columns, rows = torch.meshgrid(torch.arange(160.0), torch.arange(160.0), indexing="xy")
    whole = (((columns - 80) / 50) ** 2 + ((rows - 70) / 40) ** 2 < 1).float()
    owner = torch.tensor([[30.0, 30, 130, 110]])
    inside = torch.nn.functional.interpolate(whole[None, None, 30:110, 30:130], (112, 112), mode="bilinear")[0]
    boxes = torch.tensor([[30.0, 30, 130, 110], [40, 20, 100, 90], [70, 60, 150, 150]])
    numbers = torch.zeros(3, dtype=torch.int64)
    found = mask_targets((255 * inside).round().byte(), owner, boxes, numbers)
    wanted = project_masks_on_boxes(whole[None], boxes, numbers, MASK_SIDE)
    assert (found - wanted).abs().mean() < 0.03
    assert ((found > 0.5) != (wanted > 0.5)).float().mean() < 0.03


def test_a_predicted_mask_fills_its_box_in_the_image() -> None:
    box = np.array([2.0, 3.0, 6.0, 7.0], np.float32)
    full = pasted(torch.ones(28, 28), box, width=10, height=8)
    assert full.sum() == 16
    assert full[3:7, 2:6].all()
    half = torch.zeros(28, 28)
    half[:, :14] = 1
    assert pasted(half, box, width=10, height=8)[3:7, 2:6].tolist() == [[True, True, False, False]] * 4
    assert pasted(torch.ones(28, 28), np.array([8.0, 6, 10, 8], np.float32), width=10, height=8).sum() == 4
