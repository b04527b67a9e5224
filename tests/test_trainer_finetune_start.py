"""What fine-tuning begins with: a new classifier, stochastic depth that was not there, other pixels, slower layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from trainer.config import ModelConfig, OptimConfig
from trainer.data.batch import Batch, Position
from trainer.loss.losses import BinaryCrossEntropy, SoftmaxCrossEntropy
from trainer.model.backbone import architecture, replace_classifier
from trainer.model.objective import Objective
from trainer.model.per_image import seeds_of, set_drop_path
from trainer.model.range_augment import DRAWS
from trainer.optim.optimiser import groups_of
from trainer.probe.linear import Head
from trainer.transfer.finetune import loss_of_task
from trainer.weights import corenet
from vocab.errors import InputError

pytestmark = pytest.mark.arithmetic

TINY: dict[str, Any] = {"patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2, "global_pool": "token"}


def model_of(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    return architecture(ModelConfig("vit_tiny_patch16_224", **{**TINY, **changes}), classes=5, image_size=16)


def batch(images: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        images=torch.randint(0, 256, (images, 16, 16, 3), generator=generator, dtype=torch.uint8),
        offsets=torch.arange(images + 1),
        classes=torch.arange(images) % 5,
        weights=torch.ones(images),
        flips=torch.zeros(images, dtype=torch.bool),
        draws=torch.zeros(images, DRAWS),
        seeds=torch.arange(images) * 977,
        tars=torch.zeros(images, dtype=torch.int32),
        indices=torch.arange(images, dtype=torch.int32),
        position=Position(0, 0, {}),
        ends=list(range(images + 1)),
    )


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_model_given_stochastic_depth_is_one_that_was_built_with_it(pool: str) -> None:
    built, given = model_of(drop_path=0.5, global_pool=pool), model_of(global_pool=pool)
    given.load_state_dict(built.state_dict())
    set_drop_path(given, 0.5)
    assert given.state_dict().keys() == built.state_dict().keys()
    images, seeds = torch.randn(16, 3, 16, 16), torch.arange(16)
    for model in (built, given):
        model.train()
        seeds_of(model).set(seeds)
    assert torch.equal(given(images), built(images))
    plain = given.eval()(images)
    assert torch.equal(plain, built.eval()(images))
    assert not torch.equal(plain, given.train()(images))


def test_stochastic_depth_needs_blocks_that_can_be_left_out() -> None:
    with pytest.raises(InputError, match=r"--drop-path: found 0\.1 for VisionTransformer with 1 blocks"):
        set_drop_path(model_of(depth=1), 0.1)
    for name, kind in (("test_resnet", "ResNet"), ("test_convnext", "ConvNeXt"), ("test_maxvit", "MaxxVit")):
        with pytest.raises(InputError, match=rf"--drop-path: found 0\.1 for {kind} with 0 blocks"):
            set_drop_path(timm.create_model(name), 0.1)


def test_a_classifier_takes_the_place_of_another() -> None:
    model = model_of()
    head = Head(torch.randn(3, 16), torch.randn(3))
    replace_classifier(model, head.weight, head.bias)
    features = torch.randn(2, 16)
    assert torch.equal(model.get_submodule("head")(features), head.logits(features))
    assert model.num_classes == 3


def test_layers_learn_more_slowly_from_top_to_bottom() -> None:
    model = model_of()
    replace_classifier(model, torch.zeros(3, 16), torch.zeros(3))
    groups = groups_of(model, OptimConfig(layer_decay=0.5, weight_decay=0.05))
    scales = {name: (group.lr_scale, group.weight_decay) for group in groups for name in group.parameters}
    assert scales["head.weight"] == (1.0, 0.05)
    assert scales["head.bias"] == scales["norm.weight"] == (1.0, 0.0)
    assert [scales[f"blocks.{block}.mlp.fc1.weight"][0] for block in range(4)] == [0.0625, 0.125, 0.25, 0.5]
    assert scales["patch_embed.proj.weight"] == (0.03125, 0.05)
    assert scales["pos_embed"] == scales["cls_token"] == (0.03125, 0.0)


def test_pixels_are_normalised_as_the_weights_want_them() -> None:
    model = model_of()
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    objective = Objective(model, None, SoftmaxCrossEntropy(), chunk=8, mean=100.0, std=50.0).eval()
    objective.score(batch().images)
    torch.testing.assert_close(seen[0], (batch().images.permute(0, 3, 1, 2).float() - 100) / 50)
    pixels, _ = objective.pixels(batch().images, batch().flips, batch().draws, batch().seeds)
    assert torch.equal(pixels, seen[0])


def test_batch_norms_keep_the_statistics_of_the_pre_training() -> None:
    shape = corenet.ConvStemSizes(img_size=32, stem_width=8, embed_dim=16, depth=2, num_heads=2, mlp_width=32)
    model = corenet.build_conv_stem(shape, classes=5)
    objective = Objective(model, None, SoftmaxCrossEntropy(), chunk=8, keep_statistics=True).train()
    before = {name: tensor.clone() for name, tensor in model.named_buffers()}
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == 2
    assert model.training
    assert not any(norm.training for norm in norms)
    objective.model(torch.randn(4, 3, 32, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_buffers())
    assert all(norm.weight.requires_grad for norm in norms)


@pytest.mark.parametrize(("several", "kind"), [(False, SoftmaxCrossEntropy), (True, BinaryCrossEntropy)])
def test_the_loss_follows_from_the_task(several: bool, kind: Callable[..., object]) -> None:
    loss = loss_of_task(smoothing=0.1, several=several)
    assert type(loss) is kind
    assert loss.smoothing == 0.1
