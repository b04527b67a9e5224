"""Pixels: every kind of image becomes upright opaque RGB, every other kind of bytes a reason."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.test_trainer_corpus import picture
from trainer.images import BadImage, centre_crop, decode, random_crop, sample_rng

LIMIT = 1_000_000


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colour_of(content: bytes) -> tuple[int, ...]:
    image = decode(content, max_pixels=LIMIT)
    assert image.mode == "RGB"
    return tuple(np.asarray(image).reshape(-1, 3).mean(0).round().astype(int).tolist())


def grey16() -> Image.Image:
    return Image.fromarray(np.full((8, 8), 0x8000, np.uint16))


def palette_with_alpha() -> Image.Image:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30])
    return image


@pytest.mark.parametrize(
    ("content", "colour"),
    [
        pytest.param(encoded(Image.new("RGB", (8, 8), (10, 200, 30)), "PNG"), (10, 200, 30), id="rgb"),
        pytest.param(encoded(Image.new("L", (8, 8), 77), "JPEG"), (77, 77, 77), id="grey"),
        pytest.param(encoded(Image.new("1", (8, 8), 1), "PNG"), (255, 255, 255), id="one bit"),
        pytest.param(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG"), (255, 255, 255), id="clear is white"),
        pytest.param(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), "PNG"), (127, 127, 127), id="half clear"),
        pytest.param(encoded(Image.new("LA", (8, 8), (0, 0)), "PNG"), (255, 255, 255), id="grey with alpha"),
        pytest.param(encoded(palette_with_alpha(), "PNG"), (10, 20, 30), id="palette"),
        pytest.param(encoded(palette_with_alpha(), "PNG", transparency=0), (255, 255, 255), id="clear palette"),
        pytest.param(encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG"), (255, 255, 255), id="cmyk"),
        pytest.param(encoded(grey16(), "PNG"), (128, 128, 128), id="16 bits"),
        pytest.param(encoded(Image.new("RGB", (8, 8), (9, 9, 9)), "WEBP", lossless=True), (9, 9, 9), id="webp"),
        pytest.param(encoded(Image.new("L", (8, 8), 50), "GIF", save_all=True), (50, 50, 50), id="gif"),
    ],
)
def test_every_kind_of_image_becomes_opaque_rgb(content: bytes, colour: tuple[int, ...]) -> None:
    assert colour_of(content) == colour


def test_a_photograph_on_its_side_is_set_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encoded(Image.new("RGB", (30, 10)), "JPEG", exif=exif)
    assert decode(lying, max_pixels=LIMIT).size == (10, 30)


def bomb(side: int) -> bytes:
    """A PNG that claims side x side pixels in a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"no image", "not_an_image", id="text"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image", id="PostScript"),
        pytest.param(picture()[:20], "not_an_image", id="half a header"),
        pytest.param(encoded(Image.effect_noise((99, 99), 50), "JPEG")[:-300], "broken_image", id="cut JPEG"),
        pytest.param(bomb(900), "broken_image", id="PNG without data"),
        pytest.param(bomb(1_001), "decompression_bomb", id="more than our limit"),
        pytest.param(bomb(12_000), "decompression_bomb", id="more than PIL warns of"),
        pytest.param(bomb(60_000), "decompression_bomb", id="more than PIL opens"),
    ],
)
def test_what_cannot_be_decoded_has_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=f"^{reason}$"):
        decode(content, max_pixels=LIMIT)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 400), byte=st.integers(0, 255), kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF"]))
def test_a_changed_byte_gives_an_image_or_a_reason(at: int, byte: int, kind: str) -> None:
    content = bytearray(encoded(Image.new("RGB", (9, 7), (90, 120, 40)), kind))
    content[at % len(content)] = byte
    with contextlib.suppress(BadImage):
        assert decode(bytes(content), max_pixels=LIMIT).mode == "RGB"


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 2000), height=st.integers(1, 40), index=st.integers(0, 9))
def test_a_crop_of_any_shape_has_the_size_asked_for(width: int, height: int, index: int) -> None:
    image = Image.new("RGB", (width, height), (7, 7, 7))
    rng = sample_rng(seed=0, epoch=0, shard="00000", index=index)
    for crop in (
        random_crop(image, rng, size=16, min_area=0.08, flip=True),
        centre_crop(image, size=16, share=0.875),
        centre_crop(image, size=16, share=1.0),
    ):
        assert crop.shape == (16, 16, 3)
        assert (crop == 7).all()


def test_a_crop_depends_on_seed_epoch_shard_and_index_alone() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8))

    def crop(**place: int | str) -> bytes:
        rng = sample_rng(**{"seed": 0, "epoch": 0, "shard": "00000", "index": 0} | place)  # type: ignore[arg-type]
        return random_crop(noise, rng, size=16, min_area=0.1, flip=True).tobytes()

    assert crop() == crop()
    assert len({crop(), crop(seed=1), crop(epoch=1), crop(shard="00001"), crop(index=1)}) == 5


def test_half_of_the_crops_are_mirrored() -> None:
    image = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], (64, 1, 3)))
    falling = 0
    for index in range(200):
        rng = sample_rng(seed=0, epoch=0, shard="s", index=index)
        crop = random_crop(image, rng, size=8, min_area=0.5, flip=True)
        falling += int(crop[0, 0, 0] > crop[0, -1, 0])
    assert 70 < falling < 130
