"""The learning rate of a step, what weight decay touches, and the moving average."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from trainer.config import OptimConfig
from trainer.optim.optimiser import average_of, learning_rate, optimiser_of

CONFIG = OptimConfig(steps=110, warmup_steps=10, start_lr=0.0, peak_lr=1.0, final_lr=0.1)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.0), (5, 0.5), (10, 1.0), (60, 0.55), (110, 0.1), (500, 0.1)])
def test_the_rate_rises_in_a_line_and_falls_in_a_cosine(step: int, rate: float) -> None:
    assert learning_rate(step, CONFIG) == pytest.approx(rate)


def test_a_run_without_warm_up_starts_near_its_peak() -> None:
    assert learning_rate(1, OptimConfig(steps=1000, warmup_steps=0, peak_lr=1.0)) == pytest.approx(1.0, abs=1e-5)


def test_weight_decay_spares_norms_biases_positions_and_the_class_token() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=3)
    optimiser = optimiser_of(model, CONFIG)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, free = ({names[id(p)] for p in group["params"]} for group in optimiser.param_groups)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.2, 0.0]
    assert decayed == {
        "patch_embed.proj.weight",
        "blocks.0.attn.qkv.weight",
        "blocks.0.attn.proj.weight",
        "blocks.0.mlp.fc1.weight",
        "blocks.0.mlp.fc2.weight",
        "head.weight",
    }
    assert {"cls_token", "pos_embed", "norm.weight", "head.bias"} <= free
    assert len(decayed) + len(free) == len(names)


def test_the_average_takes_its_share_of_new_weights() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = average_of(model, OptimConfig(ema_momentum=0.25))
    for value in (8.0, 4.0):  # the first one is copied
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
    assert average.module.weight.item() == 8.0 * 0.75 + 4.0 * 0.25
    assert torch.is_tensor(average.n_averaged)
