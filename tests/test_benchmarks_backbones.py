"""The recipe, the steps and the figures of the benchmarks of backbones, on coloured squares; no speed is tested."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.backbones import BACKBONES, Backbones, config_of, measure, placed, steps_of, trained
from benchmarks.step import StepSpeed, filled
from benchmarks.step import measure as measure_step
from tests.corpus import make_corpus
from trainer.config import ModelConfig
from trainer.distributed import Rank
from trainer.model.backbone import on_meta
from trainer.recipes.sample import CONFIG
from vocab.errors import OutputExistsError

HERE = Rank(0, 1, torch.device("cpu"))


def test_a_backbone_has_the_recipe_of_the_demo_but_for_model_and_learning_rate() -> None:
    found = config_of(Backbones(device="cpu", seed=3), ModelConfig(model="convnext_atto"), 1e-3)
    assert (found.model.model, found.run.seed) == ("convnext_atto", 3)
    assert found.optim == replace(CONFIG.optim, peak_lr=1e-3, final_lr=1e-5)
    assert (found.data, found.loss) == (CONFIG.data, CONFIG.loss)
    same = config_of(Backbones(), *BACKBONES["resnet10t"])
    assert (same.model, same.optim) == (CONFIG.model, CONFIG.optim)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_takes_images_of_the_demo(name: str) -> None:
    model, _ = BACKBONES[name]
    assert on_meta(model, classes=3, image_size=CONFIG.data.image_size, one_size=True).training


def test_backbones_take_steps_in_turn_and_a_run_says_what_it_came_to(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus").config(tmp_path / "run")
    configs = {
        name: placed(replace(corpus, model=ModelConfig(model=f"test_{name}")), corpus.data, tmp_path / name)
        for name in ("resnet", "convnext")
    }
    data = replace(corpus.data, image_size=32)
    configs = {name: replace(config, data=data) for name, config in configs.items()}
    assert steps_of(configs, minutes=1e-6, rank=HERE) == {"resnet": 4, "convnext": 4}
    found = trained(configs["resnet"], HERE)
    assert (found["steps"], found["peak_lr"], found["parameters"]) == (6, 3e-3, 372_979)
    assert 0 < found["macro_map"] <= 1
    assert 0 <= found["top1"] <= 1
    assert (tmp_path / "resnet" / "page.html").is_file()


def test_backbones_are_compared_in_a_new_folder_alone(tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError, match="wanted a new one"):
        measure(Backbones(out=tmp_path))


def test_quick_steps_are_of_the_model_that_is_named() -> None:
    assert filled(StepSpeed(quick=True, model="convnext_tiny"), HERE).model == "convnext_tiny"
    assert filled(StepSpeed(quick=True), HERE).model == "vit_tiny_patch16_224"
    assert filled(StepSpeed(), HERE).model == "vit_base_patch16_224"


@pytest.mark.parametrize("model", ["test_vit", "test_resnet", "test_convnext", "test_maxvit"])
def test_a_step_of_any_backbone_has_its_speed_utilisation_and_memory(model: str) -> None:
    options = StepSpeed(
        device="cpu", model=model, image_size=64, classes=20, batch=2, steps=1, rounds=1, parts=("step",)
    )
    found = measure_step(options)
    assert found["options"]["model"] == model
    assert all(found[name] > 0 for name in ("images_per_second", "mfu", "memory_gb", "peak_tflops"))
