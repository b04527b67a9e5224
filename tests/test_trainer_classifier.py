"""The classifier in chunks: the plain path's loss and gradients, from one chunk of logits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.head_memory import RESULTS, HeadMemory, measure_one
from trainer.config import LossConfig
from trainer.loss.classifier import chunked_loss
from trainer.loss.losses import Loss, loss_of
from trainer.loss.targets import Targets
from vocab.errors import InputError, MismatchError
from vocab.vocabulary import Vocabulary

pytestmark = pytest.mark.arithmetic

NAMES = ("bce", "softmax", "softmax-idf", "asymmetric")
IMAGES, CLASSES, WIDTH = 7, 11, 5


def loss_named(name: str, classes: int = CLASSES) -> Loss:
    vocabulary = Vocabulary(
        np.arange(classes, dtype=np.int32), np.arange(classes, 0, -1).astype(np.int64), rows=2 * classes, min_count=1
    )
    return loss_of(LossConfig(loss=name), vocabulary)  # type: ignore[arg-type]


def problem(
    images: int = IMAGES, classes: int = CLASSES, width: int = WIDTH, *, dtype: torch.dtype = torch.float64
) -> tuple[list[Tensor], Targets]:
    """Features, weight and bias that want gradients; targets with 0 to 3 classes and weights of 0 to 1."""
    seed = torch.Generator().manual_seed(images)
    shapes = [(images, width), (classes, width), (classes,)]
    inputs = [torch.randn(shape, dtype=dtype, generator=seed).requires_grad_() for shape in shapes]
    labels = [torch.randperm(classes, generator=seed)[: image % 4] for image in range(images)]
    offsets = torch.tensor([0, *map(len, labels)]).cumsum(0)
    weights = torch.rand(images, generator=seed).round(decimals=1)
    return inputs, Targets(offsets, torch.cat(labels), weights, offsets.tolist())


class Plain(torch.autograd.Function):
    """All logits at once, the loss's gradient handed to PyTorch's own linear layer."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Targets, loss: Loss) -> Tensor:
        total, gradient = loss(logits.clone(), targets)
        ctx.save_for_backward(gradient)
        return total / len(logits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * gradient / len(ctx.saved_tensors[0]), None, None


def gradients_of(value: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(value, inputs))


class Recorder(TorchDispatchMode):
    """What is computed, and how large the largest result is."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.casts: Counter[tuple[int, ...]] = Counter()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls[func.overloadpacket.__name__] += 1
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.numel())
            if func.overloadpacket.__name__ == "_to_copy":
                self.casts[tuple(result.shape)] += 1
        return result


@pytest.mark.parametrize("chunk", [1, 3, IMAGES, 100])
@pytest.mark.parametrize("name", NAMES)
def test_any_chunk_equals_the_plain_path(name: str, chunk: int) -> None:
    inputs, targets = problem()
    loss = loss_named(name)
    value = chunked_loss(*inputs, targets, loss, chunk=chunk)
    expected = Plain.apply(F.linear(*inputs), targets, loss)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradients_of(3 * value, inputs), gradients_of(3 * expected, inputs))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_small_differences(name: str) -> None:
    inputs, targets = problem(4, 5, 2)
    loss = loss_named(name, 5)
    assert torch.autograd.gradcheck(lambda *three: chunked_loss(*three, targets, loss, chunk=3), inputs)


def test_parts_add_up_to_the_whole() -> None:
    inputs, targets = problem(images=8)
    features, weight, bias = inputs
    loss = loss_named("bce")
    whole = chunked_loss(features, weight, bias, targets, loss, chunk=3)
    expected = gradients_of(whole, inputs)
    values = []
    for first in (0, 2, 4, 6):
        rows = slice(first, first + 2)
        part = chunked_loss(features[rows], weight, bias, targets.cut(first, first + 2), loss, chunk=3) / 4
        part.backward()
        values.append(part.detach())
    torch.testing.assert_close(torch.stack(values).sum(), whole.detach())
    torch.testing.assert_close([tensor.grad for tensor in inputs], expected)


def test_a_retained_graph_gives_the_same_gradient_twice() -> None:
    inputs, targets = problem()
    value = chunked_loss(*inputs, targets, loss_named("softmax"), chunk=2)
    value.backward(retain_graph=True)
    first = [tensor.grad.clone() for tensor in inputs if tensor.grad is not None]
    value.backward()
    torch.testing.assert_close([tensor.grad for tensor in inputs], [2 * gradient for gradient in first])


def test_a_second_derivative_is_refused() -> None:
    inputs, targets = problem()
    value = chunked_loss(*inputs, targets, loss_named("bce"), chunk=2)
    (slope,) = torch.autograd.grad(value.square(), inputs[2], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
def test_only_the_gradients_that_are_wanted_are_formed(wanted: tuple[bool, bool, bool]) -> None:
    inputs, targets = problem()
    loss = loss_named("bce")
    expected = gradients_of(chunked_loss(*inputs, targets, loss, chunk=3), inputs)
    some = [tensor.detach().requires_grad_(want) for tensor, want in zip(inputs, wanted, strict=True)]
    with Recorder() as recorder:
        value = chunked_loss(*some, targets, loss, chunk=IMAGES)
    assert recorder.calls["mm"] + recorder.calls["addmm_"] == int(wanted[0]) + int(wanted[1])
    value.backward()
    for tensor, want, gradient in zip(some, wanted, expected, strict=True):
        if want:
            torch.testing.assert_close(tensor.grad, gradient)
        else:
            assert tensor.grad is None


def test_without_gradients_the_logits_are_all_that_is_multiplied() -> None:
    inputs, targets = problem()
    expected = chunked_loss(*inputs, targets, loss_named("bce"), chunk=3).detach()
    with torch.no_grad(), Recorder() as recorder:
        value = chunked_loss(*inputs, targets, loss_named("bce"), chunk=3)
    assert not value.requires_grad
    torch.testing.assert_close(value, expected)
    assert (recorder.calls["addmm"], recorder.calls["mm"], recorder.calls["addmm_"]) == (3, 0, 0)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_as_large_as_all_logits_and_the_host_never_waits(name: str, bfloat16: bool) -> None:
    inputs, targets = problem(64, 48, 4, dtype=torch.float32)
    loss = loss_named(name, 48)
    with Recorder() as recorder, torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        chunked_loss(*inputs, targets, loss, chunk=8).backward()
    assert recorder.largest == 8 * 48  # more than the features, and than the weight
    # Each of these reads a value, or a number of values, from the device.
    assert not recorder.calls.keys() & {
        "_local_scalar_dense",
        "item",
        "nonzero",
        "is_nonzero",
        "masked_select",
        "equal",
    }


def test_the_weight_is_cast_once_under_autocast() -> None:
    inputs, targets = problem(64, 48, 4, dtype=torch.float32)
    with Recorder() as recorder, torch.autocast("cpu", torch.bfloat16):
        chunked_loss(*inputs, targets, loss_named("bce", 48), chunk=8)
    assert recorder.casts[48, 4] == 1


@pytest.mark.parametrize("name", NAMES)
def test_autocast_multiplies_in_bfloat16_and_computes_the_rest_in_float32(name: str) -> None:
    inputs, targets = problem(dtype=torch.float32)
    loss = loss_named(name)
    with torch.autocast("cpu", torch.bfloat16):
        value = chunked_loss(*inputs, targets, loss, chunk=3)
    found = gradients_of(value, inputs)
    assert value.dtype == torch.float32
    assert [gradient.dtype for gradient in found] == [torch.float32] * 3

    features, weight = (tensor.detach().bfloat16() for tensor in inputs[:2])
    logits = (features @ weight.T).float() + inputs[2].detach()
    total, d = loss(logits, targets)
    torch.testing.assert_close(value, total / IMAGES)
    torch.testing.assert_close(found[2], d.sum(0) / IMAGES)
    low = d.bfloat16()
    torch.testing.assert_close(found[0], (low @ weight).float() / IMAGES)
    by_chunk = [(low[rows].T @ features[rows]).float() for rows in (slice(0, 3), slice(3, 6), slice(6, 7))]
    torch.testing.assert_close(found[1], torch.stack(by_chunk).sum(0) / IMAGES)


def test_parameters_of_bfloat16_get_gradients_of_bfloat16() -> None:
    inputs, targets = problem(dtype=torch.bfloat16)
    value = chunked_loss(*inputs, targets, loss_named("bce"), chunk=3)
    value.backward()
    assert value.dtype == torch.float32
    assert [tensor.grad.dtype for tensor in inputs if tensor.grad is not None] == [torch.bfloat16] * 3


def test_autocast_leaves_float64_alone() -> None:
    inputs, targets = problem()
    expected = chunked_loss(*inputs, targets, loss_named("bce"), chunk=3)
    with torch.autocast("cpu", torch.bfloat16):
        value = chunked_loss(*inputs, targets, loss_named("bce"), chunk=3)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, expected, rtol=1e-14, atol=0)


def test_features_may_be_a_view_with_gaps() -> None:
    inputs, targets = problem()
    tokens = torch.stack([inputs[0].detach()] * 3, 1).requires_grad_()
    loss = loss_named("bce")
    chunked_loss(tokens[:, 1], *inputs[1:], targets, loss, chunk=3).backward()
    expected = gradients_of(chunked_loss(*inputs, targets, loss, chunk=3), inputs[:1])
    assert tokens.grad is not None
    torch.testing.assert_close(tokens.grad[:, 1], expected[0])
    assert not tokens.grad[:, 0].any()


def test_features_may_come_out_of_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch warns that its guards are slow on Python 3.13.0, which is nothing to this test.
    monkeypatch.setattr(torch._dynamo.config, "issue_3_13_0_warning", False)
    torch.manual_seed(0)
    trunk = nn.Linear(3, WIDTH)
    inputs, targets = problem(dtype=torch.float32)
    loss, pixels = loss_named("bce"), torch.randn(IMAGES, 3)

    def gradients(features: Tensor) -> list[Tensor]:
        value = chunked_loss(features, *inputs[1:], targets, loss, chunk=3)
        return gradients_of(value, [*trunk.parameters(), *inputs[1:]])

    compiled = torch.compile(trunk, backend="aot_eager")
    torch.testing.assert_close(gradients(compiled(pixels)), gradients(trunk(pixels)))


class Objective(nn.Module):
    """A trunk and a classifier, as DDP wraps them."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head, self.loss = nn.Linear(3, WIDTH), nn.Linear(WIDTH, CLASSES), loss_named("softmax-idf")

    def forward(self, pixels: Tensor, targets: Targets) -> Tensor:
        result: Tensor = chunked_loss(self.trunk(pixels), self.head.weight, self.head.bias, targets, self.loss, chunk=3)
        return result


def test_it_trains_under_distributed_data_parallel(tmp_path: Path) -> None:
    torch.manual_seed(0)
    objective, pixels = Objective(), torch.randn(IMAGES, 3)
    _, targets = problem()
    parameters = list(objective.parameters())
    expected = gradients_of(objective(pixels, targets), parameters)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(objective)
        with wrapped.no_sync():
            wrapped(pixels, targets).backward()
        wrapped(pixels, targets).backward()  # DDP fails here if a parameter's gradient had not come
    finally:
        dist.destroy_process_group()
    torch.testing.assert_close([parameter.grad for parameter in parameters], [2 * gradient for gradient in expected])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no Linux: the resident memory is read there")
def test_both_versions_of_the_memory_benchmark_compute_the_same() -> None:
    options = HeadMemory(images=16, classes=800, width=4, chunk=5, device="cpu", timed=False)
    dense, ours = (measure_one(replace(options, version=version)) for version in ("dense", "ours"))
    assert [ours[name] for name in RESULTS] == pytest.approx([dense[name] for name in RESULTS], rel=1e-5)
    assert dense.keys() == ours.keys() == {"peak", *RESULTS}


def test_an_impossible_chunk_and_targets_of_other_images_are_refused() -> None:
    inputs, targets = problem()
    with pytest.raises(InputError, match="head-chunk"):
        LossConfig(head_chunk=0)
    with pytest.raises(MismatchError, match="6 images"):
        chunked_loss(*inputs, targets.cut(0, 6), loss_named("bce"), chunk=3)
