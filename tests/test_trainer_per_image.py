"""What is random inside a model belongs to each image: the same in any batch, alone, compiled, checkpointed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
import timm
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.forks import Forks
from trainer.config import ModelConfig
from trainer.model.backbone import architecture, checkpoint_activations, features
from trainer.model.hashes import PATCH_STREAM, PATH_STREAM, keys, words
from trainer.model.per_image import (
    DropPath,
    ImageSeeds,
    PatchDropout,
    choose_patches,
    install,
    kept_patches,
    patch_share,
    seeds_of,
    set_patch_share,
)
from vocab.errors import InputError

pytestmark = pytest.mark.arithmetic

SMALL = ModelConfig(
    model="vit_tiny_patch16_224", patch_size=8, embed_dim=16, depth=3, num_heads=2, drop_path=0.5, patch_keep=0.5
)
SEEDS = torch.tensor([0, 1, -1, 2**62, 12345, -(2**63)])


def model(config: ModelConfig = SMALL) -> nn.Module:
    torch.manual_seed(0)
    return architecture(config, classes=5, image_size=32).double().train()


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def gradients(net: nn.Module, pictures: Tensor, seeds: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    seeds_of(net).set(seeds)
    features(net, pictures).square().sum().backward()
    return {name: weight.grad.clone() for name, weight in net.named_parameters() if weight.grad is not None}


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8),
    st.integers(1, 40).flatmap(lambda patches: st.tuples(st.just(patches), st.integers(1, patches))),
)
@settings(deadline=None, max_examples=40)
def test_an_image_keeps_the_patches_of_its_smallest_words(seeds: list[int], sizes: tuple[int, int]) -> None:
    patches, kept = sizes
    chosen = choose_patches(torch.tensor(seeds), patches, kept)
    for seed, own in zip(seeds, chosen.tolist(), strict=True):
        numbers = words(keys(torch.tensor([seed]), PATCH_STREAM)[:, None], torch.arange(patches))[0].tolist()
        assert len(set(numbers)) == patches
        assert own == sorted(sorted(range(patches), key=numbers.__getitem__)[:kept])


def test_an_image_is_the_same_alone_and_in_any_batch_and_order() -> None:
    net, pictures = model(), images(6)
    seeds_of(net).set(SEEDS)
    together = net(pictures)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    seeds_of(net).set(SEEDS[order])
    torch.testing.assert_close(net(pictures[order]), together[order])
    for index in range(6):
        seeds_of(net).set(SEEDS[index : index + 1])
        torch.testing.assert_close(net(pictures[index : index + 1])[0], together[index])


def test_another_seed_gives_other_patches_and_other_paths() -> None:
    net, pictures = model(), images(1).expand(6, -1, -1, -1)
    seeds_of(net).set(SEEDS)
    assert len({round(value, 9) for value in net(pictures)[:, 0].tolist()}) == 6


def test_every_set_of_patches_is_equally_likely() -> None:
    count = 60_000
    chosen = Counter(tuple(row) for row in choose_patches(torch.arange(count), 6, 3).tolist())
    assert set(chosen) == set(combinations(range(6), 3))
    expected = count / 20
    # Chi squared of 19 degrees of freedom: 43.8 is passed once in a thousand times.
    assert sum((seen - expected) ** 2 / expected for seen in chosen.values()) < 43.8


def test_every_patch_of_a_whole_image_is_kept_equally_often() -> None:
    chosen = choose_patches(torch.arange(20_000) * 7919 - 2**40, 196, 49)
    shares = torch.bincount(chosen.flatten(), minlength=196) / 20_000
    assert (shares - 0.25).abs().max().item() < 5 * math.sqrt(0.25 * 0.75 / 20_000)


def test_streams_and_noise_share_no_key() -> None:
    plain, patches, paths = keys(SEEDS), keys(SEEDS, PATCH_STREAM), keys(SEEDS, PATH_STREAM)
    assert len({*plain.tolist(), *patches.tolist(), *paths.tolist()}) == 18


@pytest.mark.parametrize(
    ("patches", "share", "kept"), [(196, 0.5, 98), (196, 0.25, 49), (49, 0.3, 15), (4, 0.01, 1), (1, 0.5, 1)]
)
def test_the_nearest_whole_number_of_patches_is_kept_and_one_at_least(patches: int, share: float, kept: int) -> None:
    assert kept_patches(patches, share) == kept
    dropout = PatchDropout(ImageSeeds(0), share=share, prefix=2)
    dropout.image_seeds.set(SEEDS)
    tokens = torch.arange(2.0 + patches).expand(6, -1)[:, :, None]
    found = dropout(tokens)[:, :, 0]
    assert found.shape == (6, 2 + kept)
    assert (found[:, :2] == torch.tensor([0.0, 1.0])).all()
    assert (found.diff(dim=1) > 0).all()
    assert torch.equal(dropout.eval()(tokens), tokens)


@pytest.mark.parametrize("pool", ["token", "avg", "map"])
def test_without_dropout_the_model_is_timm_s(pool: str) -> None:
    # To the bit; with a class token but for rounding, for the last block's products are smaller ones.
    tolerance = 1e-5 if pool == "token" else 0.0
    sizes = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "global_pool": pool}
    torch.manual_seed(0)
    theirs = timm.create_model(SMALL.model, img_size=32, num_classes=5, drop_path_rate=0.2, **sizes)
    torch.manual_seed(0)
    ours = architecture(
        ModelConfig(model=SMALL.model, drop_path=0.2, **sizes),  # type: ignore[arg-type]
        classes=5,
        image_size=32,
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(images(2).float()), theirs(images(2).float()), rtol=tolerance, atol=tolerance)
    # In training all that differs is what is thrown: with no chance of it, nothing does.
    for module in [*ours.modules(), *theirs.modules()]:
        vars(module).update({name: 0.0 for name in ("drops", "drop_prob") if name in vars(module)})
    ours.train(), theirs.train()
    torch.testing.assert_close(ours(images(2).float()), theirs(images(2).float()), rtol=tolerance, atol=tolerance)


def test_paths_are_dropped_as_often_as_asked_and_the_others_scaled() -> None:
    seeds = ImageSeeds(branches=4)
    seeds.set(torch.arange(20_000))
    kept = torch.stack(
        [DropPath(seeds, branch=branch, rate=0.2, scale=True)(torch.ones(20_000, 2, 3)) for branch in range(4)]
    )
    assert set(kept.flatten().tolist()) == {0.0, 1.25}
    assert (kept == kept[:, :, :1, :1]).all()
    coins = (kept[:, :, 0, 0] > 0).double()
    assert coins.mean(dim=1).tolist() == pytest.approx([0.8] * 4, abs=0.015)
    # A branch's coin says nothing of another's.
    assert (torch.corrcoef(coins) - torch.eye(4)).abs().max().item() < 0.03


def test_paths_follow_timm_s_rates() -> None:
    rates = [module.rate for module in model().modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.25, 0.25, 0.5, 0.5])
    assert not any(type(module).__module__.startswith("timm.layers.drop") for module in model().modules())


def test_a_rate_of_1_drops_everything_and_makes_no_infinity() -> None:
    seeds = ImageSeeds(branches=1)
    seeds.set(SEEDS)
    assert DropPath(seeds, branch=0, rate=1.0, scale=True)(torch.ones(6, 2)).tolist() == [[0.0, 0.0]] * 6


def test_gradients_reach_the_patches_that_are_seen_and_no_others() -> None:
    net = model(ModelConfig(model=SMALL.model, patch_size=8, embed_dim=16, depth=1, num_heads=2, patch_keep=0.5))
    found = gradients(net, images(1), SEEDS[:1])
    assert all(gradient.isfinite().all() for gradient in found.values())
    seen = (found["pos_embed"][0].abs().sum(dim=1) > 0).nonzero().flatten().tolist()
    assert seen == [0, *(1 + number for number in choose_patches(SEEDS[:1], 16, 8)[0].tolist())]


def test_blocks_that_are_computed_again_throw_the_same_coins() -> None:
    plain, again = model(), model()
    checkpoint_activations(again)
    expected, found = gradients(plain, images(6), SEEDS), gradients(again, images(6), SEEDS)
    assert expected.keys() == found.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


def test_training_without_seeds_is_refused() -> None:
    with pytest.raises(RuntimeError, match="without its images' seeds"):
        model()(images(1))
    model().eval()(images(1))


def test_all_patches_are_seen_in_the_last_share_of_training() -> None:
    config = ModelConfig(patch_keep=0.5, full_patches_share=0.1)
    assert [patch_share(step, config, steps=20) for step in (0, 17, 18, 19)] == [0.5, 0.5, 1.0, 1.0]
    net = model()
    set_patch_share(net, 1.0)
    seeds_of(net).set(SEEDS)
    whole = net(images(6))
    set_patch_share(net, 0.5)
    assert not torch.allclose(net(images(6)), whole)


def test_patches_that_cannot_be_dropped_are_named() -> None:
    for keep in (0.0, 1.5):
        with pytest.raises(InputError, match=f"--patch-keep: found {keep}; wanted 0.25 or more, and at most 1"):
            ModelConfig(patch_keep=keep)
    with torch.device("meta"):
        net = timm.create_model("beit_base_patch16_224")
    with pytest.raises(InputError, match=r"--patch-keep: found 0\.5 for Beit; wanted a plain vision transformer"):
        install(net, patch_keep=0.5)


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.usefixtures("alone")
def test_processes_change_nothing(parallel: str) -> None:
    expected = gradients(model(), images(6), SEEDS)
    net = model()
    wrapped: nn.Module = net
    if parallel == "ddp":
        wrapped = nn.parallel.DistributedDataParallel(net)
    else:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (1,))
        for block in net.get_submodule("blocks").children():
            fully_shard(block, mesh=mesh)
        fully_shard(net, mesh=mesh)
    seeds_of(net).set(SEEDS)
    plain = model()
    seeds_of(plain).set(SEEDS)
    logits = wrapped(images(6))
    torch.testing.assert_close(logits, plain(images(6)))
    logits.square().sum().backward()
    plain(images(6)).square().sum().backward()
    for (name, weight), other in zip(net.named_parameters(), plain.parameters(), strict=True):
        assert name in expected or name.startswith("head")
        grad = weight.grad.full_tensor() if parallel == "fsdp" else weight.grad  # type: ignore[operator, union-attr]
        torch.testing.assert_close(grad, other.grad)


# In forks, for the tests' type checks are no code to compile.
CHECK = """
graphs = CompileCounterWithBackend(backend)
compiled = torch.compile(objective, dynamic=False, fullgraph=True, backend=graphs)
for step, share in enumerate(shares):
    set_patch_share(model, share)
    seeds, results = torch.arange(6) * 2**40 + step, []
    for module in (objective, compiled):
        model.zero_grad()
        loss = module(inputs, seeds)
        loss.backward()
        results.append((loss.detach(), weight.grad.clone()))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
print("graphs", graphs.frame_count)
"""
WHOLE_MODEL = """
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from trainer.config import ModelConfig
from trainer.model.per_image import seeds_of, set_patch_share
from trainer.model.backbone import architecture, checkpoint_activations, features

class Objective(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, seeds):
        seeds_of(self.model).set(seeds)
        return features(self.model, images).square().sum()

torch.manual_seed(0)
config = ModelConfig(
    model="vit_tiny_patch16_224", patch_size=8, embed_dim=16, depth=2, num_heads=2, drop_path=0.5, patch_keep=0.5
)
model = architecture(config, classes=3, image_size=16, one_size=False).train()
checkpoint_activations(model)
objective, inputs, weight = Objective(model), torch.randn(6, 3, 16, 16), model.blocks[0].attn.qkv.weight
backend, shares = "aot_eager", [0.5, 0.5, 1.0, 0.5, 1.0]
"""
# Compiled to machine code, which takes a minute for a whole model. Without vector instructions, so that the code is the
# same on every processor; vec_isa_ok skips the compiler's trial of them, which takes half as long as the rest.
TWO_LAYERS = """
import torch
import torch._inductor.config
from torch._dynamo.testing import CompileCounterWithBackend
from trainer.model.per_image import DropPath, ImageSeeds, PatchDropout, set_patch_share

class Objective(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.image_seeds = ImageSeeds(1)
        self.patch_drop = PatchDropout(self.image_seeds, share=0.5, prefix=1)
        self.path = DropPath(self.image_seeds, branch=0, rate=0.5, scale=True)
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, tokens, seeds):
        self.image_seeds.set(seeds)
        kept = self.patch_drop(tokens)
        return (kept + self.path(self.linear(kept))).square().sum()

torch.set_num_threads(2)
torch.manual_seed(0)
torch._inductor.config.cpp.vec_isa_ok = True
torch._inductor.config.cpp.simdlen = 1
torch._inductor.config.compile_threads = 1
objective, inputs = Objective(), torch.randn(6, 9, 8)
model, weight = objective, objective.linear.weight
backend, shares = "inductor", [0.5, 0.5, 0.5]
"""


@pytest.mark.parametrize(("code", "graphs"), [(WHOLE_MODEL, 2), (TWO_LAYERS, 1)], ids=["whole model", "two layers"])
def test_compiled_there_is_one_graph_for_each_share_and_no_more(
    forks: Forks, tmp_path: Path, code: str, graphs: int
) -> None:
    group = forks.start(1, tmp_path / "log", exec, code + CHECK, {})
    assert group.wait() == [0], group.said()
    assert group.said().splitlines()[-1] == f"graphs {graphs}"


BLOCK_BY_BLOCK = """
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from trainer.config import ModelConfig
from trainer.model.backbone import architecture, features
from trainer.model.per_image import seeds_of

for rate in (0.0, 0.4):
    torch._dynamo.reset()
    sizes = dict(patch_size=8, embed_dim=16, depth=6, num_heads=2)
    model = architecture(ModelConfig(model="vit_tiny_patch16_224", drop_path=rate, **sizes), classes=3, image_size=16)
    graphs = CompileCounterWithBackend("eager")
    for block in model.train().blocks:
        block.compile(dynamic=False, backend=graphs)
    seeds_of(model).set(torch.arange(2))
    features(model, torch.randn(2, 3, 16, 16))
    print("drop path", rate, "graphs", graphs.frame_count)
"""


def test_blocks_of_different_drop_rates_share_a_graph(forks: Forks, tmp_path: Path) -> None:
    group = forks.start(1, tmp_path / "log", exec, BLOCK_BY_BLOCK, {})
    assert group.wait() == [0], group.said()
    # Without: the blocks, and the last one of one query. With: the first one, which is never dropped, besides.
    assert group.said().splitlines()[-2:] == ["drop path 0.0 graphs 2", "drop path 0.4 graphs 3"]
