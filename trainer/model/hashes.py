"""Random numbers on the device that belong to an image: hashes of its seed, a stream and a counter.

The words have 32 bits, and are the same on every device, alone or in any batch, with no state to keep.
"""

from __future__ import annotations

from jaxtyping import Int64
from torch import Tensor

WORD = 0xFFFFFFFF
_START = 0x9E3779B9
# Streams: the uses of an image's numbers. The noise of RangeAugment uses the keys without a stream; streams lie above
# the number of any pixel, so that no stream's key is one of the noise's words.
PATCH_STREAM, PATH_STREAM, MIX_STREAM, CHANNEL_STREAM = 0x80000001, 0x80000002, 0x80000003, 0x80000004


def keys(seeds: Int64[Tensor, " batch"], stream: int | None = None) -> Int64[Tensor, " batch"]:
    """A 32-bit key for each image and stream."""
    # The seed's two words one after the other, because a seed has 64 bits and the hash 32. The hash maps zero to zero,
    # so that seed 0 needs `_START`.
    plain = mix(mix((seeds & WORD) ^ _START) ^ ((seeds >> 32) & WORD))
    return plain if stream is None else mix(plain ^ stream)


def words(
    keys: Int64[Tensor, "batch *ones"], positions: Int64[Tensor, "*positions"]
) -> Int64[Tensor, "batch *positions"]:
    """Words at some positions of each key's stream, 0 to 2^32 - 1; `keys` has a dimension of 1 for each of `positions`.

    No word of an image occurs twice: for one key, the hash is a permutation of the positions.
    """
    # Positions are mixed first: otherwise keys that differ in low bits would only reorder the same numbers.
    return mix(mix(positions) ^ keys)


def mix(words: Int64[Tensor, "*any"]) -> Int64[Tensor, "*any"]:
    """A permutation of 32-bit words in which every bit of the input reaches every bit of the output.

    Two rounds of shift and multiply, with the constants that the search of Wellons' hash-prospector found least biased
    (0x21f0aaad, 0x735a2d97). Both are below 2^31, so that no product leaves an int64: overflow would be undefined in
    compiled code.
    """
    # In place on one new tensor: of words as many as pixels, there are never more than two copies.
    words = (words >> 16).bitwise_xor_(words)
    for factor in (0x21F0AAAD, 0x735A2D97):
        words.mul_(factor).bitwise_and_(WORD)
        words ^= words >> 15
    return words
