"""Runs of other architectures than plain transformers: convolutional and hierarchical, with and without batch norms.

resnet: convolutions and batch norms. maxvit: stages of windows, with batch norms too. convnext: stages, layer norms.
"""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from tests.corpus import Corpus, make_corpus
from trainer.config import ModelConfig, OptimConfig
from trainer.distributed import Rank
from trainer.model.backbone import architecture, blocks_of, classifier_name, classifier_of, features, on_meta
from trainer.optim.optimiser import groups_of, matrices_of

HERE = Rank(0, 1, torch.device("cpu"))
# timm's smallest models, and sizes of images that they take.
SMALL = {"test_resnet": 32, "test_maxvit": 64, "test_convnext": 32}


def backbone(name: str, **changes: Any) -> dict[str, Any]:
    """Options of a run of one of SMALL."""
    sizes = dict.fromkeys(("patch_size", "embed_dim", "depth", "num_heads", "global_pool"))
    return {"model": name, "image_size": SMALL[name], **sizes, **changes}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize(
    ("name", "size", "classifier", "blocks"),
    [
        ("vit_tiny_patch16_224", 32, "head", 12),
        ("vit_small_patch14_dinov2", 28, "head", 12),
        ("eva02_tiny_patch14_224", 28, "head", 12),
        ("resnet18", 32, "fc", 8),
        ("resnet10t", 64, "fc", 5),
        ("convnext_atto", 32, "head.fc", 16),
        ("swin_tiny_patch4_window7_224", 64, "head.fc", 16),
        ("maxvit_pico_rw_256", 64, "head.fc", 5),
        ("mobilenetv3_small_050", 32, "classifier", 12),
        ("efficientnet_b0", 32, "classifier", 16),
        ("regnetx_002", 32, "head.fc", 14),
        ("densenet121", 32, "classifier", 61),
        # Its patches of 7 pixels overlap, and lie 4 apart.
        ("pvt_v2_b0", 64, "head", 5),
    ],
)
def test_a_family_has_its_classifier_and_its_blocks_where_timm_says(
    name: str, size: int, classifier: str, blocks: int
) -> None:
    model = on_meta(ModelConfig(model=name), classes=3, image_size=size, one_size=True)
    assert classifier_name(model) == classifier
    assert timm.get_pretrained_cfg(name).classifier == classifier
    found = blocks_of(model)
    called: list[nn.Module] = []
    for block in found:
        block.register_forward_hook(lambda part, given, out: called.append(part))
    assert features(model.eval(), torch.empty(2, 3, size, size, device="meta")).shape == (
        2,
        classifier_of(model).in_features,
    )
    # Each is called once, so that it can be compiled and sharded; none holds another.
    assert [id(part) for part in called] == [id(block) for block in found]
    assert len(found) == blocks
    weights = [id(parameter) for block in found for parameter in block.parameters()]
    assert len(weights) == len(set(weights))


@pytest.mark.parametrize("name", SMALL)
def test_the_classifier_of_the_features_is_the_model(name: str) -> None:
    model = architecture(ModelConfig(model=name), classes=3, image_size=SMALL[name]).eval()
    images = torch.randn(2, 3, SMALL[name], SMALL[name])
    torch.testing.assert_close(classifier_of(model)(features(model, images)), model(images))


def test_layers_of_a_convolutional_network_learn_by_the_layers_above_them() -> None:
    model = on_meta(ModelConfig(model="resnet10t"), classes=3, image_size=64)
    groups = groups_of(model, OptimConfig(layer_decay=0.5, weight_decay=0.1))
    found = {name: (group.lr_scale, group.weight_decay) for group in groups for name in group.parameters}
    assert found.keys() == dict(model.named_parameters()).keys()
    assert found["fc.weight"] == (1.0, 0.1)
    assert found["fc.bias"] == (1.0, 0.0)
    assert [found[f"layer{layer}.0.conv1.weight"] for layer in (4, 3, 2, 1)] == [
        (0.5, 0.1), (0.25, 0.1), (0.125, 0.1), (0.0625, 0.1),
    ]  # fmt: skip
    assert found["layer1.0.bn1.weight"] == (0.0625, 0.0)
    assert found["conv1.0.weight"] == (0.03125, 0.1)


def test_weight_decay_spares_what_timm_spares() -> None:
    model = on_meta(ModelConfig(model="swin_tiny_patch4_window7_224"), classes=3, image_size=224, one_size=True)
    groups = groups_of(model, OptimConfig(weight_decay=0.1))
    spared = {name.rpartition(".")[2] for group in groups if group.weight_decay == 0 for name in group.parameters}
    assert spared == {"bias", "weight", "relative_position_bias_table"}
    decayed = [name for group in groups if group.weight_decay for name in group.parameters]
    assert {name.rpartition(".")[2] for name in decayed} == {"weight"}


def test_muon_takes_the_matrices_of_a_hierarchy_but_for_the_first_layer_and_the_classifier() -> None:
    model = on_meta(ModelConfig(model="swin_tiny_patch4_window7_224"), classes=3, image_size=224, one_size=True)
    found = matrices_of(model)
    assert {"layers.0.blocks.0.attn.qkv.weight", "layers.3.blocks.1.mlp.fc2.weight"} <= found
    assert "head.fc.weight" not in found
    assert not matrices_of(on_meta(ModelConfig(model="resnet10t"), classes=3, image_size=64))
