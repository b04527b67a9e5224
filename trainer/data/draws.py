"""Random numbers that belong to a sample: the same on any machine, by any loader, in any batch.

Nothing is kept between calls: a number is a hash of seed, epoch, shard and index, so that a resumed run has no
generator to restore.
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float64, Integer, UInt64

WORD = 2**64 - 1
# Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014): SplitMix64's increment, and
# the multipliers of its finaliser (Stafford's variant 13).
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
# A double has 53 bits of mantissa.
SPARE_BITS = np.uint64(11)
UNIT = 2.0**-53


def shard_hash(name: str) -> int:
    """The first 64 bits of the BLAKE2b hash of a shard's name, little-endian."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def draws(
    *,
    seed: int,
    epoch: int | Integer[np.ndarray, " n"],
    shards: UInt64[np.ndarray, " n"],
    indices: Integer[np.ndarray, " n"],
    count: int,
) -> Float64[np.ndarray, "n count"]:
    """Draw `count` numbers in [0, 1) for each of n samples, multiples of 2**-53.

    `epoch`: integers, one for all samples or one for each. `shards`: `shard_hash` of the names. `indices`: of the
    samples in their shards. Each sample runs SplitMix64 from a state into which seed, epoch, shard and index were
    mixed one after the other, so its first numbers do not depend on `count`.
    """
    state = np.full(len(indices), seed & WORD, np.uint64)
    _mix(state)
    for word in (np.asarray(epoch), shards, indices):
        state ^= word.astype(np.uint64)
        state += GOLDEN
        _mix(state)
    numbers = state[:, None] + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN
    _mix(numbers)
    numbers >>= SPARE_BITS
    return numbers * UNIT


def _mix(words: UInt64[np.ndarray, "*any"]) -> None:
    """SplitMix64's finaliser, in place: one to one on 64 bits, each bit of a result depends on all bits of its word."""
    for shift, factor in zip(SHIFTS, MULTIPLIERS, strict=False):
        words ^= words >> shift
        words *= factor
    words ^= words >> SHIFTS[2]
