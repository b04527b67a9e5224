"""What weight decay and layer decay touch, what a step changes and what it leaves alone, and the gradient's norm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import timm
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.forks import Forks
from trainer.config import OptimConfig
from trainer.model.range_augment import RangeAugment
from trainer.optim.average import Average
from trainer.optim.optimiser import Optimiser, clip, groups_of, learning_rate, lr_scale, optimiser_of
from vocab.errors import InputError

pytestmark = pytest.mark.arithmetic

CONFIG = OptimConfig(start_lr=0.01)
MUON = replace(CONFIG, optimiser="muon")
MATRICES = {f"blocks.{n}.{part}.weight" for n in (0, 1) for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """These matrices are so small that threads would wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def vit(name: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 2, "num_classes": 3}
    model: nn.Module = timm.create_model(name, **sizes, **options)
    return model


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def backward(model: nn.Module, of: Tensor | None = None) -> None:
    (model(images() if of is None else of) - torch.tensor([1.0, 0.0, -1.0])).square().mean().backward()


def snapshot(*tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    return [{name: tensor.detach().clone() for name, tensor in some.items()} for some in tensors]


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_weight_decay_spares_norms_biases_positions_and_the_class_token() -> None:
    model = vit()
    decays = {name: group.weight_decay for group in groups_of(model, CONFIG) for name in group.parameters}
    assert decays.keys() == dict(model.named_parameters()).keys()
    assert set(decays.values()) == {0.2, 0.0}
    decayed = {name for name, decay in decays.items() if decay}
    assert decayed == MATRICES | {"patch_embed.proj.weight", "head.weight"}


@pytest.mark.parametrize(
    ("name", "options", "free"),
    [
        ("vit_base_patch16_reg4_gap_256", {}, {"reg_token", "pos_embed", "fc_norm.weight"}),
        ("vit_base_patch16_siglip_224", {}, {"attn_pool.latent", "pos_embed", "attn_pool.norm.weight"}),
        ("vit_tiny_patch16_224", {"init_values": 0.1}, {"blocks.0.ls1.gamma", "blocks.1.ls2.gamma", "cls_token"}),
    ],
)
def test_weight_decay_spares_registers_pooling_tokens_and_layer_scale(
    name: str, options: dict[str, Any], free: set[str]
) -> None:
    groups = groups_of(vit(name, **options), CONFIG)
    assert free <= {name for group in groups if group.weight_decay == 0 for name in group.parameters}
    assert len(groups) == 2


def test_learnt_augmentation_is_not_decayed_and_learns_at_the_model_s_rate() -> None:
    *_, ranges = groups_of(vit(), replace(CONFIG, layer_decay=0.5, optimiser="muon"), augment=RangeAugment())
    assert list(ranges.parameters) == ["augment.low", "augment.high"]
    assert (ranges.weight_decay, ranges.lr_scale, ranges.muon) == (0.0, 1.0, False)


def test_frozen_parameters_are_in_no_group() -> None:
    model = vit()
    model.blocks[0].requires_grad_(False)
    groups = groups_of(model, replace(CONFIG, layer_decay=0.5))
    scales = {name: group.lr_scale for group in groups for name in group.parameters}
    assert not any(name.startswith("blocks.0.") for name in scales)
    assert scales["cls_token"] == 0.125  # its distance from the head is what it was


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("head.weight", 1.0),
        ("norm.bias", 1.0),
        ("attn_pool.q.weight", 1.0),
        ("blocks.11.mlp.fc1.weight", 0.75),
        ("blocks.10.norm1.weight", 0.75**2),
        ("blocks.0.attn.qkv.weight", 0.75**12),
        ("norm_pre.weight", 0.75**13),
        ("patch_embed.proj.weight", 0.75**13),
        ("pos_embed", 0.75**13),
        ("cls_token", 0.75**13),
        ("reg_token", 0.75**13),
    ],
)
def test_a_layer_learns_by_the_layers_above_it(name: str, scale: float) -> None:
    assert lr_scale(name, depth=12, layer_decay=0.75) == scale


def test_the_rate_of_each_group_is_its_share_of_the_rate() -> None:
    model = vit()
    optimiser = optimiser_of(model, replace(MUON, layer_decay=0.5, weight_decay=0.0, muon_momentum=0.0))
    before = snapshot(dict(model.named_parameters()))[0]
    optimiser.set_learning_rate(0.008)
    backward(model)
    optimiser.step()
    moved = {name: (p - before[name]).abs().max().item() for name, p in model.named_parameters()}
    # AdamW's first step is the rate wherever the gradient is not tiny: 0.008, and by halves to the patch embedding.
    assert moved["head.bias"] == pytest.approx(0.008, rel=1e-3)
    assert moved["blocks.1.mlp.fc2.bias"] == pytest.approx(0.004, rel=1e-3)
    assert moved["blocks.0.mlp.fc2.bias"] == pytest.approx(0.002, rel=1e-3)
    assert moved["patch_embed.proj.bias"] == pytest.approx(0.001, rel=1e-3)


def test_layer_decay_and_muon_want_a_model_with_layers_and_matrices() -> None:
    with pytest.raises(InputError, match=r"--layer-decay: found 0.5 for a Linear without layers that timm tells apart"):
        optimiser_of(nn.Linear(2, 2), replace(CONFIG, layer_decay=0.5))
    with pytest.raises(InputError, match="--optimiser: found muon for a Linear without matrices in its layers"):
        optimiser_of(nn.Linear(2, 2), MUON)


def torch_adamw(named: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    free = [p for name, p in named.items() if p.ndim < 2 or name in ("cls_token", "pos_embed")]
    decayed = [p for p in named.values() if all(p is not other for other in free)]
    groups = [{"params": decayed, "weight_decay": 0.2}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.999), fused=True)


def torch_muon(named: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Muon(named.values(), lr=0.01, weight_decay=0.2, momentum=0.95, adjust_lr_fn="match_rms_adamw")


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_steps_equal_plain_torch_s_to_the_bit(kind: Literal["adamw", "muon"]) -> None:
    own, other = vit(), vit()
    optimiser = optimiser_of(own, replace(CONFIG, optimiser=kind))
    named = dict(other.named_parameters())
    matrices = {name: p for name, p in named.items() if name in MATRICES and kind == "muon"}
    plain = [torch_adamw({name: p for name, p in named.items() if name not in matrices})]
    plain += [torch_muon(matrices)] if matrices else []
    for _ in range(3):
        backward(own)
        optimiser.step()
        optimiser.zero_grad()
        backward(other)
        for part in plain:
            part.step()
            part.zero_grad()
    assert same(own.state_dict(), other.state_dict())
    state = {
        f"{name}/{kind}": tensor
        for name, p in named.items()
        for part in plain
        for kind, tensor in part.state.get(p, {}).items()
    }
    assert same(dict(sorted(optimiser.state().items())), dict(sorted(state.items())))


def test_the_state_is_there_before_the_first_step_and_stays_the_same_tensors() -> None:
    model, augment = vit(), RangeAugment()
    optimiser = optimiser_of(model, MUON, augment=augment)
    before = optimiser.state()
    assert {name.rpartition("/")[2] for name in before} == {"step", "exp_avg", "exp_avg_sq", "momentum_buffer"}
    assert {name.rpartition("/")[0] for name in before if name.endswith("/momentum_buffer")} == MATRICES
    assert {"head.weight/step", "cls_token/exp_avg_sq", "augment.low/exp_avg", "augment.high/step"} <= before.keys()
    assert not any(tensor.any() for tensor in before.values())
    backward(model)
    augment.ranges().sum().backward()
    optimiser.step()
    assert all(tensor is before[name] for name, tensor in optimiser.state().items())
    assert all(tensor.any() for name, tensor in before.items() if name.endswith("/step"))


@pytest.mark.parametrize("config", [CONFIG, MUON], ids=["adamw", "muon"])
def test_a_state_copied_into_a_fresh_optimiser_goes_on_as_the_old_one(config: OptimConfig) -> None:
    first, second = vit(), vit()
    old = optimiser_of(first, config)
    for _ in range(3):
        backward(first)
        old.step()
        old.zero_grad()
    new = optimiser_of(second, config)
    second.load_state_dict(first.state_dict())
    state = new.state()
    for name, tensor in old.state().items():
        state[name].copy_(tensor)
    for model, optimiser in ((first, old), (second, new)):
        backward(model)
        optimiser.step()
    assert same(first.state_dict(), second.state_dict())
    assert same(old.state(), new.state())


@pytest.mark.parametrize("gradient", [1.0, float("nan"), float("inf")])
def test_a_skipped_step_changes_nothing_whatever_the_gradients(gradient: float) -> None:
    model, augment = vit(), RangeAugment()
    optimiser = optimiser_of(model, replace(CONFIG, on_spike="skip"), augment=augment)
    backward(model)
    augment.ranges().sum().backward()
    optimiser.step(skip=torch.tensor(0.0))
    tensors = (model.state_dict(), augment.state_dict(), optimiser.state())
    before = snapshot(*tensors)
    for parameter in (*model.parameters(), *augment.parameters()):
        assert parameter.grad is not None
        parameter.grad.fill_(gradient)
    clip(model, 1.0)
    optimiser.step(skip=torch.tensor(1.0))
    assert all(same(left, right) for left, right in zip(before, tensors, strict=True))
    assert optimiser.state()["head.weight/step"].item() == 1.0


def test_a_run_with_skipped_steps_is_the_run_without_them() -> None:
    models = [vit(), vit()]
    skipping, plain = (optimiser_of(model, CONFIG) for model in models)
    for flag in (0.0, 1.0, 0.0):
        backward(models[0])
        skipping.step(skip=torch.tensor(flag))
        skipping.zero_grad()
    for _ in range(2):
        backward(models[1])
        plain.step()
        plain.zero_grad()
    assert same(models[0].state_dict(), models[1].state_dict())
    assert same(skipping.state(), plain.state())


def test_a_step_after_a_skipped_one_needs_no_flag() -> None:
    model = vit()
    optimiser = optimiser_of(model, CONFIG)
    for skip in (torch.tensor(1.0), None):
        backward(model)
        optimiser.step(skip=skip)
    assert optimiser.state()["head.weight/step"].item() == 1.0


def test_muon_cannot_skip() -> None:
    with pytest.raises(InputError, match="--optimiser: found muon with --on-spike skip"):
        replace(MUON, on_spike="skip")
    with pytest.raises(AssertionError, match="Muon cannot skip"):
        optimiser_of(vit(), MUON).step(skip=torch.tensor(0.0))


class NoReads(TorchDispatchMode):
    """Fails where the host would wait for a number from the device."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a number is read"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("config", [CONFIG, MUON], ids=["adamw", "muon"])
def test_no_part_of_a_step_reads_a_number_from_the_device(config: OptimConfig) -> None:
    model = vit()
    optimiser, average = optimiser_of(model, config), Average(model, momentum=0.1)
    skip = torch.tensor(0.0) if config.optimiser == "adamw" else None
    for _ in range(2):
        backward(model)
        with NoReads():
            optimiser.set_learning_rate(0.1)
            clip(model, 1.0)
            optimiser.step(skip=skip)
            optimiser.zero_grad()
            average.update()
    with NoReads(), pytest.raises(AssertionError, match="a number is read"):
        torch.tensor(1.0).item()


@pytest.mark.parametrize("most", [1e-3, 1e3])
def test_clipping_is_torch_s_to_the_bit(most: float) -> None:
    own, other = vit(), vit()
    backward(own)
    backward(other)
    norm = clip(own, most)
    assert torch.equal(norm, nn.utils.clip_grad_norm_(other.parameters(), most))
    assert norm.shape == ()
    for left, right in zip(own.parameters(), other.parameters(), strict=True):
        assert left.grad is not None
        assert right.grad is not None
        assert torch.equal(left.grad, right.grad)


def test_a_gradient_that_is_no_number_gives_a_norm_that_is_none() -> None:
    model = nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[float("nan"), 1.0]])
    assert clip(model, 1.0).isnan()


def test_learnt_ranges_stay_out_of_the_norm() -> None:
    model = nn.ModuleDict({"model": nn.Linear(1, 2, bias=False), "augment": RangeAugment()})
    model["model"].weight.grad = torch.tensor([[3.0], [4.0]])
    for parameter in model["augment"].parameters():
        parameter.grad = torch.full_like(parameter, 1000.0)
    assert clip(model, 1.0).item() == 5.0
    assert model["model"].weight.grad.flatten().tolist() == pytest.approx([0.6, 0.8], rel=1e-5)
    assert model["augment"].low.grad.tolist() == [1000.0] * 3


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_every_optimiser_learns_under_every_schedule(
    kind: Literal["adamw", "muon"], schedule: Literal["cosine", "wsd"]
) -> None:
    config = OptimConfig(steps=40, optimiser=kind, schedule=schedule, warmup_steps=4, peak_lr=0.01, weight_decay=0.0)
    model = vit()
    optimiser = optimiser_of(model, config)
    classes = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    losses = []
    for step in range(1, config.steps + 1):
        optimiser.set_learning_rate(learning_rate(step, config))
        loss = nn.functional.cross_entropy(model(images(8)), classes)
        loss.backward()
        clip(model, config.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[0] > 1.0
    assert losses[-1] < 0.2


@contextmanager
def _group() -> Iterator[int]:
    """This process's rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def _take_steps(model: nn.Module, optimiser: Optimiser, augment: RangeAugment, of: Tensor) -> list[float]:
    """Three steps, the second one skipped, and the norms of their gradients."""
    norms = []
    for flag in (0.0, 1.0, 0.0):
        backward(model, of)
        augment.ranges().sum().backward()
        norm = clip(model, 0.1)
        assert not isinstance(norm, DTensor)
        norms.append(norm.item())
        optimiser.step(skip=torch.tensor(flag))
        optimiser.zero_grad()
    return norms


def _sharded(folder: Path) -> None:
    """One of two processes: train a sharded model, and keep what rank 0 sees of the whole."""
    with _group() as rank:
        model, augment = vit(), RangeAugment()
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
        optimiser = optimiser_of(model, CONFIG, augment=augment)
        norms = _take_steps(model, optimiser, augment, images().chunk(2)[rank])
        tensors = dict(model.named_parameters()) | dict(augment.named_parameters()) | optimiser.state()
        whole = {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in tensors.items()}
        if rank == 0:
            torch.save((norms, {name: tensor.detach() for name, tensor in whole.items()}), folder / "whole.pt")


def test_two_processes_with_shards_come_to_the_weights_of_one(forks: Forks, tmp_path: Path) -> None:
    forks.run(2, tmp_path / "log", _sharded, tmp_path)
    norms, whole = torch.load(tmp_path / "whole.pt")
    model, augment = vit(), RangeAugment()
    optimiser = optimiser_of(model, CONFIG, augment=augment)
    assert norms == pytest.approx(_take_steps(model, optimiser, augment, images()), rel=1e-4)
    tensors = dict(model.named_parameters()) | dict(augment.named_parameters()) | optimiser.state()
    assert tensors.keys() == whole.keys()
    for name, tensor in tensors.items():
        # AdamW divides by gradients that may be next to nothing, and a step is 0.01.
        torch.testing.assert_close(whole[name], tensor.detach(), rtol=1e-3, atol=1e-4, msg=name)
