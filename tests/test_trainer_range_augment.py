"""RangeAugment: what it does to an image, on what that depends, and where its loss takes the ranges."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.model.range_augment import DRAWS, RangeAugment, errors, gaussian, psnr_loss, target_error

pytestmark = pytest.mark.arithmetic

# Coins that leave an image alone, and coins that apply everything.
NONE, ALL = [0.5, 0.9, 0.7], [0.0, 0.2, 0.49]
# Which draw stands for which order of brightness, contrast and noise.
ORDERS = {"nbc": 0.1, "ncb": 0.3, "bnc": 0.4, "cnb": 0.6, "bcn": 0.7, "cbn": 0.9}


def pictures(batch: int, size: int = 16, seed: int = 0) -> Tensor:
    """Smooth random images in [-1, 1], channels-last as the trainer has them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 4, 4, generator=generator) * 2 - 1
    return F.interpolate(coarse, size=size, mode="bilinear").contiguous(memory_format=torch.channels_last)


def chance(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    return {
        "draws": torch.rand(batch, DRAWS, generator=generator),
        "seeds": torch.randint(-(2**63), 2**63 - 1, (batch,), generator=generator),
    }


def narrowed(brightness: float, contrast: float, deviation: float) -> RangeAugment:
    """A module whose ranges are single numbers, whatever the bounds."""
    module = RangeAugment()
    module.least, module.span = torch.tensor([[brightness, contrast, deviation]] * 2), torch.zeros(2, 3)
    return module


def plainly(image: Tensor, order: str, brightness: float, contrast: float, noise: Tensor) -> Tensor:
    """The operations one after the other on an image in [0, 1]; contrast turns about the mean without the noise."""
    clean, noisy = (image + 1) / 2, (image + 1) / 2
    for operation in order:
        match operation:
            case "b":
                clean, noisy = clean * brightness, noisy * brightness
            case "c":
                mean = clean.mean(dim=(1, 2), keepdim=True) * (1 - contrast)
                clean, noisy = mean + clean * contrast, mean + noisy * contrast
            case "n":
                noisy = noisy + noise
    return noisy.clamp(0, 1) * 2 - 1


def test_no_image_changes_where_no_coin_falls() -> None:
    images = pictures(3)
    draws = torch.tensor([[*NONE, 0.1, 0.9, 0.5, 0.2]] * 3)
    assert torch.equal(RangeAugment()(images, draws=draws, seeds=torch.arange(3)), images)


def test_no_image_changes_at_zero_magnitudes() -> None:
    images = pictures(3)
    draws = torch.tensor([[*ALL, 0.1, 0.9, 0.5, 0.2]] * 3)
    assert torch.equal(narrowed(1.0, 1.0, 0.0)(images, draws=draws, seeds=torch.arange(3)), images)


def test_brightness_multiplies_levels_from_black_and_stops_at_white() -> None:
    images = torch.tensor([-1.0, 0.0, 0.5, 1.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    draws = torch.tensor([[0.0, 0.9, 0.9, 0.5, 0.5, 0.5, 0.5]])
    bright = narrowed(1.5, 9.0, 1.0)(images, draws=draws, seeds=torch.tensor([5]))
    assert bright[0, 0].flatten().tolist() == pytest.approx([-1.0, 0.5, 1.0, 1.0])


def test_contrast_turns_about_the_mean_of_each_channel() -> None:
    images = torch.stack([torch.tensor([0.0, 0.5]), torch.tensor([-0.5, -0.5]), torch.tensor([0.2, 0.4])]).view(
        1, 3, 1, 2
    )
    draws = torch.tensor([[0.9, 0.0, 0.9, 0.5, 0.5, 0.5, 0.5]])
    flat = narrowed(9.0, 0.5, 1.0)(images, draws=draws, seeds=torch.tensor([5]))
    assert flat.flatten().tolist() == pytest.approx([0.125, 0.375, -0.5, -0.5, 0.25, 0.35])


def test_the_noise_s_deviation_is_that_of_levels_from_0_to_1() -> None:
    images = torch.zeros(1, 3, 128, 128)
    draws = torch.tensor([[0.9, 0.9, 0.0, 0.5, 0.5, 0.5, 0.5]])
    noisy = narrowed(9.0, 9.0, 0.1)(images, draws=draws, seeds=torch.tensor([5]))
    assert (noisy / 2).std().item() == pytest.approx(0.1, rel=0.02)


@settings(deadline=None)
@given(
    st.sampled_from(sorted(ORDERS)),
    st.floats(0.25, 4),
    st.floats(0.25, 4),
    st.floats(0, 0.5),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.integers(0, 9),
)
def test_one_pass_equals_the_operations_one_after_the_other(
    order: str, brightness: float, contrast: float, deviation: float, applied: list[bool], seed: int
) -> None:
    images, seeds = pictures(1, seed=seed), torch.tensor([seed])
    coins = [0.25 if on else 0.75 for on in applied]
    draws = torch.tensor([[*coins, 0.5, 0.5, 0.5, ORDERS[order]]])
    kept = "".join(name for name in order if applied["bcn".index(name)])
    expected = plainly(images[0], kept, brightness, contrast, deviation * gaussian(seeds, 16, 16)[0])
    found = narrowed(brightness, contrast, deviation)(images, draws=draws, seeds=seeds)[0]
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_the_six_orders_are_equally_likely() -> None:
    assert set(ORDERS) == {"".join(order) for order in permutations("bcn")}
    assert sorted(int(draw * 6) for draw in ORDERS.values()) == [0, 1, 2, 3, 4, 5]


def test_a_place_in_the_range_is_uniform_between_its_ends() -> None:
    module = RangeAugment()
    low, high = module.ranges()[:, 0].tolist()
    images = torch.full((3, 3, 2, 2), -0.99)
    draws = torch.tensor([[0.0, 0.9, 0.9, place, 0.5, 0.5, 0.5] for place in (0.0, 0.25, 1.0)])
    factors = (module(images, draws=draws, seeds=torch.arange(3))[:, 0, 0, 0] + 1) / 0.01
    assert factors.tolist() == pytest.approx([low, low + 0.25 * (high - low), high], rel=1e-4)


def test_half_of_the_images_meet_each_operation() -> None:
    draws = chance(4000, torch.Generator().manual_seed(0))["draws"]
    draws[:, 1:3] = 0.9
    touched = narrowed(0.5, 9.0, 1.0)(torch.ones(4000, 3, 1, 1), draws=draws, seeds=torch.zeros(4000).long())
    assert 0.47 < (touched[:, 0] < 1).float().mean().item() < 0.53


def test_an_image_is_the_same_alone_and_in_any_batch() -> None:
    module, images = RangeAugment(), pictures(6)
    given_ = chance(6, torch.Generator().manual_seed(1))
    together = module(images, **given_)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    shuffled = module(images[order], **{name: value[order] for name, value in given_.items()})
    torch.testing.assert_close(shuffled, together[order], atol=1e-6, rtol=0)
    for index in range(6):
        alone = module(images[index : index + 1], **{name: value[index : index + 1] for name, value in given_.items()})
        torch.testing.assert_close(alone[0], together[index], atol=1e-6, rtol=0)


def test_noise_is_standard_normal() -> None:
    noise = gaussian(torch.tensor([0, 1, 2, -7, 2**62]), 128, 128)
    for one in noise:
        assert one.mean().item() == pytest.approx(0, abs=0.02)
        assert one.std().item() == pytest.approx(1, abs=0.02)
    assert (noise.abs() < 1).float().mean().item() == pytest.approx(0.6827, abs=0.005)
    assert (noise.abs() < 2).float().mean().item() == pytest.approx(0.9545, abs=0.003)
    assert noise.pow(3).mean().item() == pytest.approx(0, abs=0.03)
    assert noise.pow(4).mean().item() == pytest.approx(3, abs=0.06)
    assert 4 < noise.abs().max().item() < 5.4


def test_noise_does_not_hang_together() -> None:
    noise = gaussian(torch.arange(16), 64, 64)
    for one, other in [
        (noise[..., 1:], noise[..., :-1]),
        (noise[:, :, 1:], noise[:, :, :-1]),
        (noise[:, 1:], noise[:, :-1]),
        (noise[1:], noise[:-1]),
    ]:
        assert (one * other).mean().item() == pytest.approx(0, abs=0.015)


def test_the_noise_of_a_seed_is_pinned() -> None:
    noise = gaussian(torch.tensor([0, 1, -1, 2**32]), 1, 2)
    assert noise[0].flatten().tolist() == pytest.approx(
        [-0.42158, 0.62274, 0.51654, 0.65721, -0.79750, -1.58828], abs=1e-4
    )
    assert len({tuple(one.flatten().tolist()) for one in noise}) == 4


def test_the_noise_equals_the_hash_written_in_whole_numbers() -> None:
    def mix(word: int) -> int:
        word ^= word >> 16
        for factor in (0x21F0AAAD, 0x735A2D97):
            word = word * factor & 0xFFFFFFFF
            word ^= word >> 15
        return word

    seed, height, width = -(2**40) + 12345, 3, 5
    key = mix(mix(seed & 0xFFFFFFFF ^ 0x9E3779B9) ^ (seed >> 32 & 0xFFFFFFFF))
    noise = gaussian(torch.tensor([seed]), height, width)[0]
    for (channel, row, column), value in zip(
        ((c, y, x) for c in range(3) for y in range(height) for x in range(width)),
        noise.flatten().tolist(),
        strict=True,
    ):
        word = mix(mix((row * width + column) * 3 + channel) ^ key)
        share = ((word >> 9) + 0.5) / 2**23
        # The share of normal numbers below this one.
        assert (1 + math.erf(value / math.sqrt(2))) / 2 == pytest.approx(share, abs=1e-6)


def test_memory_stays_channels_last() -> None:
    altered = RangeAugment()(pictures(2), **chance(2, torch.Generator()))
    assert altered.is_contiguous(memory_format=torch.channels_last)


def test_every_end_of_every_range_gets_a_gradient() -> None:
    module, images = RangeAugment(start="narrow"), pictures(64)
    psnr_loss(images, module(images, **chance(64, torch.Generator().manual_seed(0))), progress=0.5).backward()
    for parameter in (module.low, module.high):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert (parameter.grad != 0).all()


def test_a_step_that_touches_no_image_still_gives_gradients_of_zero() -> None:
    module, images = RangeAugment(), pictures(2)
    draws = torch.tensor([[*NONE, 0.1, 0.9, 0.5, 0.2]] * 2)
    psnr_loss(images, module(images, draws=draws, seeds=torch.arange(2)), progress=0.5).backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert (parameter.grad == 0).all()


def test_the_ranges_start_where_the_reference_starts() -> None:
    low, high = RangeAugment().ranges().tolist()
    assert low == pytest.approx([0.59797, 0.59797, 0.000025], rel=1e-4)
    assert high == pytest.approx([8.37641, 8.37641, 0.52503], rel=1e-4)


def test_a_narrow_start_is_milder() -> None:
    low, high = RangeAugment(start="narrow").ranges().tolist()
    assert low == pytest.approx([0.89, 0.89, 0.000025], rel=1e-4)
    assert high == pytest.approx([1.15, 1.15, 0.01], rel=1e-4)


def test_ranges_stay_inside_their_bounds() -> None:
    module = RangeAugment()
    for value, low, high in [
        (99.0, [0.9, 0.9, 0.00005], [10.0, 10.0, 1.0]),
        (-99.0, [0.1, 0.1, 0.0], [1.1, 1.1, 0.0001]),
    ]:
        for parameter in module.parameters():
            torch.nn.init.constant_(parameter, value)
        assert module.ranges().flatten().tolist() == pytest.approx([*low, *high])


@pytest.mark.parametrize(
    ("progress", "error", "decibels"), [(0.0, 6.5025, 40.0), (0.5, 328.37625, 22.96709), (1.0, 650.25, 20.0)]
)
def test_the_target_falls_from_40_to_20_decibels(progress: float, error: float, decibels: float) -> None:
    assert target_error(progress) == pytest.approx(error)
    assert 10 * math.log10(255**2 / target_error(progress)) == pytest.approx(decibels, abs=1e-4)


def test_the_loss_is_the_distance_of_each_image_s_error_from_the_target() -> None:
    plain = torch.zeros(2, 3, 1, 1)
    altered = torch.tensor([0.0, 0.2]).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    # Errors of 0 and (0.2 * 127.5)^2 = 650.25; at the end the target is 650.25; smooth L1 takes half a unit off.
    assert errors(plain, altered).tolist() == pytest.approx([0.0, 650.25], rel=1e-5)
    assert psnr_loss(plain, altered, progress=1.0).item() == pytest.approx(100 / 65025 * (650.25 - 0.5) / 2, rel=1e-4)


@pytest.mark.parametrize("start", ["corenet", "narrow"])
@pytest.mark.parametrize(("progress", "target"), [(0.5, 22.97), (1.0, 20.0)])
def test_the_loss_alone_brings_similarity_near_its_target(
    start: Literal["corenet", "narrow"], progress: float, target: float
) -> None:
    module, images, generator = RangeAugment(start=start), pictures(64, size=8), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    similarities = []
    for _ in range(300):
        altered = module(images, **chance(64, generator))
        psnr_loss(images, altered, progress=progress).backward()
        optimiser.step()
        optimiser.zero_grad()
        similarities.append(10 * math.log10(255**2 / errors(images, altered).mean().item()))
    # From 10 or 29 dB. Not nearer, for an eighth of the images is untouched and an L1 distance balances numbers of
    # images, not errors.
    assert abs(similarities[0] - target) > 6
    assert sum(similarities[-50:]) / 50 == pytest.approx(target, abs=3.5)


def test_its_state_is_its_two_tensors() -> None:
    learnt, other = RangeAugment(start="narrow"), RangeAugment()
    state = learnt.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {"low": (3,), "high": (3,)}
    other.load_state_dict(state)
    assert torch.equal(other.ranges(), learnt.ranges())
