"""The moving average: torch's own to the bit, in place of the weights and back, sharded as well as whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.forks import Forks
from trainer.optim.average import Average

pytestmark = pytest.mark.arithmetic


def network(seed: int = 0) -> nn.Module:
    """Weights of one row and of several, and buffers of numbers and of a count."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))


def disturb(model: nn.Module, seed: int) -> None:
    """Other weights, and buffers as after a step."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor))
    model(torch.randn(4, 3))


def snapshot(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_the_average_takes_its_share_of_new_weights() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, momentum=0.25)
    for value in (8.0, 4.0):  # the first one is copied
        nn.init.constant_(model.weight, value)
        average.update()
    assert average.state_dict()["weight"].item() == 8.0 * 0.75 + 4.0 * 0.25
    assert average.steps == 2


@pytest.mark.parametrize("momentum", [0.0005, 0.1, 1.0])
def test_it_equals_torch_s_averaged_model_to_the_bit(momentum: float) -> None:
    model = network()
    own = Average(model, momentum=momentum)
    torch_s = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - momentum))
    assert same(own.state_dict(), torch_s.module.state_dict())
    for seed in range(5):
        disturb(model, seed)
        own.update()
        torch_s.update_parameters(model)
        assert same(own.state_dict(), torch_s.module.state_dict())
    assert own.steps == int(torch_s.n_averaged)


def test_weights_of_several_types_are_averaged_each_in_its_own() -> None:
    model = nn.ParameterList([torch.zeros(2, dtype=kind) for kind in (torch.float32, torch.float64, torch.bfloat16)])
    average = Average(model, momentum=0.5)
    for value in (0.0, 1.0):
        for weight in model:
            nn.init.constant_(weight, value)
        average.update()
    assert [tensor.tolist() for tensor in average.state_dict().values()] == [[0.5, 0.5]] * 3


def test_the_state_is_live_so_that_a_checkpoint_can_be_copied_into_it() -> None:
    model = network()
    average = Average(model, momentum=0.5)
    assert average.state_dict().keys() == model.state_dict().keys()
    for tensor in average.state_dict().values():
        tensor.fill_(3)
    average.steps = 1
    with torch.no_grad():
        model[0].bias.fill_(5.0)
    average.update()
    assert average.state_dict()["0.bias"].tolist() == [4.0] * 5


def test_the_model_holds_the_average_inside_and_its_weights_after() -> None:
    model = network()
    average = Average(model, momentum=0.5)
    for seed in range(3):
        disturb(model, seed)
        average.update()
    weights, averaged = snapshot(model.state_dict()), snapshot(average.state_dict())
    places = [tensor.data_ptr() for tensor in model.parameters()]
    with average.swapped():
        assert same(model.state_dict(), averaged)
        assert [tensor.data_ptr() for tensor in model.parameters()] == places
    assert same(model.state_dict(), weights)
    assert same(average.state_dict(), averaged)


def test_the_weights_come_back_when_evaluation_fails() -> None:
    model = network()
    average = Average(model, momentum=0.5)
    disturb(model, 1)
    weights, averaged = snapshot(model.state_dict()), snapshot(average.state_dict())
    with pytest.raises(KeyboardInterrupt), average.swapped():
        raise KeyboardInterrupt
    assert same(model.state_dict(), weights)
    assert same(average.state_dict(), averaged)


def test_a_swap_that_fails_half_way_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    average = Average(model, momentum=0.5)
    disturb(model, 1)
    weights, averaged = snapshot(model.state_dict()), snapshot(average.state_dict())
    clone, calls = torch.Tensor.clone, []

    def full(tensor: Tensor) -> Tensor:
        calls.append(tensor)
        if len(calls) == 3:
            raise torch.OutOfMemoryError
        return clone(tensor)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "clone", full)
        with pytest.raises(torch.OutOfMemoryError), average.swapped():
            pytest.fail("swapped, with no memory for it")
    assert same(model.state_dict(), weights)
    assert same(average.state_dict(), averaged)


def test_a_weight_with_two_names_changes_places_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    average = Average(model, momentum=0.5)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    weights, averaged = snapshot(model.state_dict()), snapshot(average.state_dict())
    with average.swapped():
        assert same(model.state_dict(), averaged)
    assert same(model.state_dict(), weights)


def test_an_average_of_averages_is_refused() -> None:
    average = Average(network(), momentum=0.5)
    with average.swapped():
        with pytest.raises(AssertionError, match="averaged weights"):
            average.update()
        with pytest.raises(AssertionError, match="averaged weights"), average.swapped():
            pass
    average.update()


def _sharded(folder: Path) -> None:
    """One of two processes: average and evaluate as a run does, and keep what rank 0 saw."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1))
    fully_shard(model[0])
    fully_shard(model)
    average = Average(model, momentum=0.5)
    weights = list(model.parameters())  # the shards, as an optimiser has them
    images = torch.ones(2, 3)
    seen = []
    for value in (1.0, 2.0, 3.0):
        with torch.no_grad():
            for weight in weights:
                weight.fill_(value)
        average.update()
        with torch.no_grad(), average.swapped():
            seen.append(model(images)[0].item())
        # A forward pass leaves the outermost weights gathered; the next must not see the ones before.
        model(images).sum().backward()
        model.zero_grad()
        with torch.no_grad():
            seen.append(model(images)[0].item())
    tensors = average.state_dict()
    assert all(isinstance(tensor, DTensor) for tensor in tensors.values())
    whole = {name: tensor.full_tensor() for name, tensor in tensors.items() if isinstance(tensor, DTensor)}
    if dist.get_rank() == 0:
        torch.save((seen, whole), folder / "seen.pt")
    dist.destroy_process_group()


def test_shards_are_averaged_swapped_and_seen_by_the_forward_pass(forks: Forks, tmp_path: Path) -> None:
    forks.run(2, tmp_path / "log", _sharded, tmp_path)
    seen, tensors = torch.load(tmp_path / "seen.pt")

    def output(value: float) -> float:  # all weights alike: five units of 3 w + w, then 5 w of them + w
        return 5 * value * 4 * value + value

    # The average is 1, 1.5, 2.25.
    assert seen == [output(value) for value in (1.0, 1.0, 1.5, 2.0, 2.25, 3.0)]
    assert {name: set(tensor.flatten().tolist()) for name, tensor in tensors.items()} == {
        name: {2.25} for name in ("0.weight", "0.bias", "1.weight", "1.bias")
    }
