"""The hook of tests/shapes.py: arrays of another dtype or shape than is written are refused, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from trainer.data import labels
from trainer.data.crops import random_box
from trainer.data.images import crop_into
from trainer.loss.targets import Targets
from trainer.step.metrics import DeferredMetrics


def test_a_function_is_held_to_shape_and_dtype() -> None:
    assert random_box(8, 8, np.zeros(22), min_area=1.0) == (0, 0, 8, 8)
    for draws in (np.zeros(21), np.zeros(22, np.float32)):
        with pytest.raises(TypeCheckError, match=r"Float64\[ndarray, '22'\]"):
            random_box(8, 8, draws, min_area=1.0)


def test_a_shape_under_another_name_counts() -> None:
    with pytest.raises(TypeCheckError, match=r"UInt8\[ndarray, 'size size 3'\]"):
        crop_into(b"", np.zeros((4, 5, 3), np.uint8), choose=lambda width, height: None, max_pixels=9)


def test_a_method_and_the_fields_of_a_dataclass_are_held_too() -> None:
    with pytest.raises(TypeCheckError, match=r"Float32\[Tensor, '4'\]"):
        DeferredMetrics(torch.device("cpu")).push(1, torch.zeros(3))
    with pytest.raises(TypeCheckError, match=r"Int64\[Tensor, 'positives'\]"):
        Targets(torch.zeros(1, dtype=torch.int64), torch.zeros(0), None, [0])


def test_a_function_without_arrays_is_left_as_it_is() -> None:
    assert hasattr(random_box, "__wrapped__")
    assert not hasattr(labels.find_shards, "__wrapped__")
