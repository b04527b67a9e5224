"""Random numbers of samples: pinned, uniform, without memory, and each sample's its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.draws import draws, shard_hash


def of(indices: np.ndarray, *, seed: int = 0, epoch: int = 0, shard: str = "00000", count: int = 24) -> np.ndarray:
    shards = np.full(len(indices), shard_hash(shard), np.uint64)
    return draws(seed=seed, epoch=epoch, shards=shards, indices=indices, count=count)


def splitmix(state: int) -> int:
    """The finaliser, one number at a time in Python's own integers."""
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return state ^ state >> 31


def test_a_shard_has_the_same_hash_everywhere() -> None:
    assert shard_hash("00000") == 0xFA02C4834BE250EE
    assert shard_hash("") == 0xB4B2797457A0A6E4


def test_the_numbers_are_those_of_every_other_machine() -> None:
    assert of(np.arange(2), count=3).tolist() == [
        [0.7998410513758828, 0.3559552733511103, 0.060200172758377746],
        [0.27222641576271644, 0.671750702331962, 0.2525934479648839],
    ]


@given(
    seed=st.integers(0, 2**70),
    epoch=st.integers(0, 2**31),
    shard=st.integers(0, 2**64 - 1),
    index=st.integers(0, 2**40),
)
def test_the_numbers_are_those_of_plain_integers(seed: int, epoch: int, shard: int, index: int) -> None:
    golden = 0x9E3779B97F4A7C15
    state = splitmix(seed % 2**64)
    for word in (epoch, shard, index):
        state = splitmix(((state ^ word) + golden) % 2**64)
    wanted = [(splitmix((state + golden * n) % 2**64) >> 11) / 2**53 for n in range(1, 6)]
    found = draws(seed=seed, epoch=epoch, shards=np.array([shard], np.uint64), indices=np.array([index]), count=5)
    assert found.tolist() == [wanted]


def test_splitmix_is_the_published_generator() -> None:
    golden = 0x9E3779B97F4A7C15
    # The first outputs of SplitMix64 from state 1234567, as listed with its reference implementation.
    assert [splitmix((1234567 + golden * n) % 2**64) for n in (1, 2, 3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_a_sample_draws_the_same_alone_and_in_any_batch() -> None:
    rng = np.random.default_rng(0)
    shards = rng.integers(0, 2**64, 50, dtype=np.uint64)
    indices = rng.integers(0, 10_000, 50)
    epochs = rng.integers(0, 9, 50)
    together = draws(seed=3, epoch=epochs, shards=shards, indices=indices, count=24)
    for n in range(50):
        one = slice(n, n + 1)
        alone = draws(seed=3, epoch=int(epochs[n]), shards=shards[one], indices=indices[one], count=24)
        assert (alone[0] == together[n]).all()
    assert (draws(seed=3, epoch=epochs, shards=shards, indices=indices, count=5) == together[:, :5]).all()


def test_no_samples_draw_nothing() -> None:
    assert of(np.arange(0)).shape == (0, 24)


def test_seed_epoch_shard_and_index_each_change_every_number() -> None:
    first = of(np.array([0]))
    for other in (
        of(np.array([0]), seed=1),
        of(np.array([0]), epoch=1),
        of(np.array([0]), shard="00001"),
        of(np.array([1])),
    ):
        assert not (first == other).any()
    # What one word gains does not cancel what another loses.
    assert not (of(np.array([1]), epoch=0) == of(np.array([0]), epoch=1)).any()


def test_the_numbers_are_uniform() -> None:
    numbers = of(np.arange(5000)).ravel()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert numbers.mean() == pytest.approx(1 / 2, abs=0.003)
    assert numbers.var() == pytest.approx(1 / 12, abs=0.001)
    counts = np.histogram(numbers, 100, (0, 1))[0]
    expected = len(numbers) / 100
    # Chi-square of 99 degrees of freedom: 99 on average, above 148 once in a thousand.
    assert ((counts - expected) ** 2 / expected).sum() < 148


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param(lambda n: (n[:-1], n[1:]), id="neighbouring samples"),
        pytest.param(lambda n: (n[:, :-1], n[:, 1:]), id="neighbouring draws"),
        pytest.param(lambda n: (n, of(np.arange(4000), epoch=1)), id="neighbouring epochs"),
        pytest.param(lambda n: (n, of(np.arange(4000), seed=1)), id="neighbouring seeds"),
        pytest.param(lambda n: (n, of(np.arange(4000), shard="00001")), id="neighbouring shards"),
    ],
)
def test_neighbours_know_nothing_of_each_other(pairs) -> None:  # type: ignore[no-untyped-def]
    one, other = (side.ravel() for side in pairs(of(np.arange(4000))))
    # Their squares of 10 x 10 are equally full, which a correlation of any shape would change.
    counts = np.histogram2d(one, other, 10, [[0, 1], [0, 1]])[0]
    expected = len(one) / 100
    assert ((counts - expected) ** 2 / expected).sum() < 148
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.013
