"""The sparse loss equals the dense one of PyTorch, in value and gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.loss.losses import binary_cross_entropy


@settings(max_examples=50, deadline=None)
@given(data=st.data(), images=st.integers(1, 6), classes=st.integers(1, 8), scale=st.sampled_from([0.1, 1.0, 40.0]))
def test_sparse_equals_dense(data: st.DataObject, images: int, classes: int, scale: float) -> None:
    labels = [sorted(data.draw(st.sets(st.integers(0, classes - 1)))) for _ in range(images)]
    dense = torch.zeros(images, classes, dtype=torch.float64)
    for image, found in enumerate(labels):
        dense[image, found] = 1
    offsets = torch.tensor([0, *map(len, labels)]).cumsum(0)
    positives = torch.tensor([label for found in labels for label in found], dtype=torch.int64)
    seed = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    ours = (scale * torch.randn(images, classes, dtype=torch.float64, generator=seed)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()

    value = binary_cross_entropy(ours, offsets, positives)
    expected = F.binary_cross_entropy_with_logits(theirs, dense, reduction="sum") / images
    value.backward()
    expected.backward()

    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.zeros(1, 4096, dtype=torch.bfloat16)
    loss = binary_cross_entropy(logits, torch.tensor([0, 0]), torch.empty(0, dtype=torch.int64))
    assert loss.dtype == torch.float32
    assert round(float(loss), 1) == 2839.1  # 4096 ln 2
