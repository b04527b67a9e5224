"""The model: timm's names, a first guess from frequencies, and options that cannot work."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from tests.synsets import counted_vocabulary
from trainer.config import LossConfig, ModelConfig
from trainer.loss.losses import loss_of
from trainer.model.backbone import architecture, build_model, checkpoint_activations, classifier_of, features, on_meta
from trainer.model.objective import Objective
from trainer.step.step import compile_objective
from vocab.errors import InputError

pytestmark = pytest.mark.arithmetic

TINY = ModelConfig(model="vit_tiny_patch16_224", patch_size=8, embed_dim=16, depth=1, num_heads=2)


def test_an_untrained_classifier_s_bias_is_the_log_odds_of_frequency() -> None:
    model = build_model(TINY, counted_vocabulary(50, 20, 1), image_size=16)
    bias = classifier_of(model).bias
    assert bias.tolist() == pytest.approx([0.0, math.log(20 / 80), math.log(1 / 99)])


def test_a_class_in_every_caption_has_a_finite_bias() -> None:
    bias = classifier_of(build_model(TINY, counted_vocabulary(100, 1), image_size=16)).bias
    assert bias.isfinite().all()


def test_weights_keep_timm_s_names() -> None:
    ours = build_model(TINY, counted_vocabulary(5, 3), image_size=16).state_dict()
    theirs = timm.create_model(
        TINY.model, img_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=2
    ).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {n: t.shape for n, t in theirs.items()}


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224.augreg_in21k",
        "vit_tiny_patch16_224.no_such_tag",
        "vit_tiny_patch16_224.",
        "vit_tiny_patch16_224_in21k",
        " vit_tiny_patch16_224.augreg_in21k ",
        "ViT_tiny_patch16_224.AugReg_in21k",
        "timm/vit_tiny_patch16_224.augreg_in21k",
        "hf-hub:timm/vit_tiny_patch16_224.augreg_in21k",
        "hf_hub:timm/vit_tiny_patch16_224",
        "local-dir:runs/vit_tiny_patch16_224",
    ],
)
@pytest.mark.parametrize("built", [architecture, on_meta])
def test_the_name_of_pretrained_weights_is_refused(name: str, built: Callable[..., object]) -> None:
    with pytest.raises(
        InputError, match=r"names pre-trained weights.*Give --model vit_tiny_patch16_224, and the weights as --init"
    ):
        built(ModelConfig(model=name), classes=3, image_size=224)


@pytest.mark.parametrize(
    ("config", "image_size", "message"),
    [
        (ModelConfig(model="vit_tinny_patch16_224"), 224, "wanted an architecture of timm"),
        (ModelConfig(model="convnext_tinny"), 224, "timm.list_models('convnext*') has them all"),
        (ModelConfig(model="zzyzx"), 224, "timm.list_models() has them all"),
        (TINY, 20, "--image-size: found 20; wanted a multiple of the patch, 8. Choose 16 or 24"),
        (ModelConfig(model="resnet18", patch_size=8), 224, "unexpected keyword argument 'patch_size'"),
        (ModelConfig(model="resnet18", global_pool="token"), 224, "resnet18 with {'global_pool': 'token'}, which timm"),
        (ModelConfig(model="densenet121", drop_path=0.1), 224, "unexpected keyword argument 'drop_path_rate'"),
        (ModelConfig(model="resnet18", patch_keep=0.5), 64, "--patch-keep: found 0.5 for ResNet"),
        (ModelConfig(model="resnetv2_50"), 224, "resnetv2_50, which has Conv2d as its classifier"),
        (ModelConfig(model="gemma4_vit_570m_enc"), 224, "gemma4_vit_570m_enc, which has no classifier"),
        (
            ModelConfig(model="efficientvit_m0"),
            224,
            "features are [192] for each image before head.bn",
        ),
        (ModelConfig(model="maxvit_pico_rw_256"), 250, "--image-size: found 250 for maxvit_pico_rw_256, which fails"),
        (ModelConfig(model="vit_tiny_patch16_224", embed_dim=20), 224, "which timm cannot build"),
        (
            ModelConfig(model="deit_tiny_distilled_patch16_224"),
            224,
            "deit_tiny_distilled_patch16_224, which has 2 classifiers",
        ),
    ],
)
def test_a_model_that_cannot_be_is_refused(config: ModelConfig, image_size: int, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        build_model(config, counted_vocabulary(5), image_size=image_size)


@pytest.mark.parametrize(
    ("name", "patch", "millions"),
    [
        ("vit_tiny_patch16_224", None, 10.2),
        ("vit_small_patch16_224", None, 31.0),
        # CatLIP, arXiv 2404.15653, states 105, 329 and 663.
        ("vit_base_patch16_224", None, 104.5),
        ("vit_large_patch16_224", None, 328.2),
        ("vit_huge_patch14_224", 16, 662.1),
        ("vit_huge_patch14_224", None, 661.9),
    ],
)
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_transformers_from_tiny_to_huge_have_the_paper_s_parameters(
    name: str, patch: int | None, millions: float, pool: str
) -> None:
    model = on_meta(
        ModelConfig(model=name, patch_size=patch, global_pool=pool),  # type: ignore[arg-type]
        classes=24_320,
        image_size=224,
    )
    parameters = dict(model.named_parameters())
    assert sum(parameter.numel() for parameter in parameters.values()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert {parameter.device.type for parameter in parameters.values()} == {"meta"}
    assert parameters["head.weight"].shape[0] == 24_320
    assert ("fc_norm.weight" in parameters) == (pool == "avg")


def test_attention_is_fused() -> None:
    modules = on_meta(TINY, classes=3, image_size=16).modules()
    assert [module.fused_attn for module in modules if hasattr(module, "fused_attn")] == [True]


@pytest.mark.parametrize("pool", ["token", "avg", "map"])
def test_the_classifier_of_the_features_is_the_model(pool: str) -> None:
    config = ModelConfig(
        model=TINY.model,
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        global_pool=pool,  # type: ignore[arg-type]
    )
    model = architecture(config, classes=3, image_size=16).eval()
    images = torch.randn(2, 3, 16, 16)
    found = features(model, images)
    assert found.shape == (2, 16)
    torch.testing.assert_close(classifier_of(model)(found), model(images))


def test_activation_checkpointing_can_be_had_and_left() -> None:
    model = architecture(TINY, classes=3, image_size=16)
    checkpoint_activations(model)
    assert model.grad_checkpointing is True
    checkpoint_activations(model, enable=False)
    assert model.grad_checkpointing is False
    with pytest.raises(InputError, match="--activation-checkpointing: found Linear"):
        checkpoint_activations(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["convit_tiny", "coat_lite_tiny"])
def test_an_architecture_whose_blocks_cannot_be_computed_again_is_refused(name: str) -> None:
    model = on_meta(ModelConfig(model=name), classes=3, image_size=224, one_size=True)
    with pytest.raises(InputError, match="--activation-checkpointing: found Co"):
        checkpoint_activations(model)


def test_a_model_without_blocks_is_not_compiled() -> None:
    model = on_meta(ModelConfig(model="pit_ti_224"), classes=3, image_size=224, one_size=True)
    objective = Objective(model, None, loss_of(LossConfig(), counted_vocabulary(50, 20, 1)), chunk=8)
    with pytest.raises(InputError, match="--compile: found PoolingVisionTransformer, which has no blocks"):
        compile_objective(objective)


def test_this_checkout_s_trainer_is_tested() -> None:
    import trainer

    assert trainer.__file__ is not None
    assert Path(trainer.__file__).parent == Path(__file__).parent.parent / "trainer"
