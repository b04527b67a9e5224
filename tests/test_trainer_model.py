"""The model: timm's names, a first guess from frequencies, and options that cannot work."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import timm

from tests.test_trainer_corpus import CAR, CAT, DOG
from trainer.config import ModelConfig
from trainer.model.vit import build_model, classifier_of
from vocab.errors import InputError
from vocab.vocabulary import Vocabulary

TINY = ModelConfig(model="vit_tiny_patch16_224", patch_size=8, embed_dim=16, depth=1, num_heads=2)


def vocabulary(*captions: int, rows: int = 100) -> Vocabulary:
    synsets = np.array([DOG, CAT, CAR], dtype=np.int32)[: len(captions)]
    return Vocabulary(synsets, np.array(captions, dtype=np.int64), rows=rows, min_count=1)


def test_an_untrained_classifier_s_bias_is_the_log_odds_of_frequency() -> None:
    model = build_model(TINY, vocabulary(50, 20, 1), image_size=16)
    bias = classifier_of(model, TINY.model).bias
    assert bias.tolist() == pytest.approx([0.0, math.log(20 / 80), math.log(1 / 99)])


def test_a_class_in_every_caption_has_a_finite_bias() -> None:
    bias = classifier_of(build_model(TINY, vocabulary(100, 1), image_size=16), TINY.model).bias
    assert bias.isfinite().all()


def test_weights_keep_timm_s_names() -> None:
    ours = build_model(TINY, vocabulary(5, 3), image_size=16).state_dict()
    theirs = timm.create_model(
        TINY.model, img_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=2
    ).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {n: t.shape for n, t in theirs.items()}


@pytest.mark.parametrize(
    ("config", "image_size", "message"),
    [
        (ModelConfig(model="vit_tinny_patch16_224"), 224, "wanted an architecture of timm"),
        (TINY, 20, "--image-size: found 20; wanted a multiple of the patch, 8. Choose 16 or 24"),
        (ModelConfig(model="resnet18"), 224, "wanted a vision transformer"),
        (ModelConfig(model="vit_tiny_patch16_224", embed_dim=20), 224, "which timm cannot build"),
    ],
)
def test_a_model_that_cannot_be_is_refused(config: ModelConfig, image_size: int, message: str) -> None:
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        build_model(config, vocabulary(5), image_size=image_size)


def test_this_checkout_s_trainer_is_tested() -> None:
    import trainer

    assert trainer.__file__ is not None
    assert Path(trainer.__file__).parent == Path(__file__).parent.parent / "trainer"
