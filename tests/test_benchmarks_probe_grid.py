"""The probe's benchmark gives its keys, and all sides come to the same; no speed is tested."""

from __future__ import annotations

import pytest
import torch

from benchmarks.probe_grid import PEERS, Features, ProbeGrid, at_once, compare, made_up, measure, no_loader


def test_the_benchmark_runs_and_gives_its_keys() -> None:
    found = measure(ProbeGrid(quick=True, rates=4, device="cpu"))
    assert found.keys() >= {*PEERS, *(f"{key}_processor" for key in PEERS)}
    assert (found["images"], found["width"], found["classes"], found["learning_rates"]) == (1000, 64, 10, 4)
    assert found["accuracy"].keys() == {"at_once", "one_by_one", "loader", "no_loader", "flushed"}
    assert all(len(shares) == 4 for shares in found["accuracy"].values())


def test_sides_that_come_to_something_else_are_refused() -> None:
    features: Features = made_up(ProbeGrid(images=512, width=8, classes=4, epochs=2, rates=2), torch.device("cpu"))
    ours, peer = at_once(features), no_loader(features)
    found = {"at_once": ours, "one_by_one": ours, "loader": peer, "no_loader": peer, "flushed": peer}
    assert compare(features, found)["at_once"][0] == pytest.approx(compare(features, found)["loader"][0], abs=0.02)
    with pytest.raises(AssertionError):
        compare(features, found | {"one_by_one": ours[::-1]})
    with pytest.raises(AssertionError):
        compare(features, found | {"loader": peer[::-1]})
