"""Crops of images: scaled into a batch, they equal PIL's, and what has no crop has the reason that PIL gives."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from tests.encoded_images import (
    LIMIT,
    PHOTO_LIMIT,
    bomb,
    cropped,
    encoded,
    grey16,
    noise,
    outcome,
    plainly,
    plainly_cropped,
    scenery,
    whole,
)
from trainer.data import images
from trainer.data.crops import Box, centre_box, random_box
from trainer.data.images import BadImage, Choose, crop_into, decode


def chosen_by(draws: np.ndarray) -> Choose:
    return lambda width, height: random_box(width, height, draws, min_area=0.08)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encoded(noise(500, 500), "WEBP"), id="WebP"),
        pytest.param(encoded(noise(500, 500), "JPEG", progressive=True, subsampling=0), id="4:4:4"),
        pytest.param(encoded(noise(500, 500), "TIFF", compression="tiff_lzw", tiffinfo={278: 500}), id="TIFF"),
    ],
)
def test_a_picture_may_have_all_pixels_that_are_allowed_in_any_format(content: bytes) -> None:
    assert outcome(cropped, content, max_pixels=250_000) == "an image"
    assert outcome(plainly_cropped, content, max_pixels=250_000) == "an image"


@pytest.fixture
def scales(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, tuple[int, ...]]]:
    """Denominator of the scale, and resulting shape, of each JPEG that the fast way decoded."""
    seen: list[tuple[float, tuple[int, ...]]] = []
    real = simplejpeg.decode_jpeg

    def spy(*arguments: object, **options: float) -> np.ndarray:
        image: np.ndarray = real(*arguments, **options)
        seen.append((options["min_factor"], image.shape))
        return image

    monkeypatch.setattr(simplejpeg, "decode_jpeg", spy)
    return seen


@pytest.fixture(scope="module")
def photographs(real_data: Path) -> list[bytes]:
    """JPEGs as they come, and enlarged to 512 and 1024 pixels on the shorter side."""

    def members(tar: Path) -> Iterator[bytes]:
        with tarfile.open(tar) as opened:
            for member in opened:
                body = opened.extractfile(member)
                if member.name.endswith(".jpg") and body is not None:
                    yield body.read()

    tars = sorted((real_data / "images" / "coco_ccby").glob("*.tar"))
    tars += sorted((real_data / "images" / "cc12m").glob("*.tar"))
    native = [content for tar in tars for content, _ in zip(members(tar), range(10), strict=False)]
    enlarged = []
    for content in native[::3]:
        image = decode(content, max_pixels=PHOTO_LIMIT)
        for side in (512, 1024):
            larger = ImageOps.scale(image, side / min(image.size))
            enlarged.append(encoded(larger, "JPEG", quality=90))
    return native + enlarged


@pytest.mark.parametrize("size", [96, 160, 224])
def test_crops_of_photographs_are_those_of_pil(
    photographs: list[bytes], scales: list[tuple[float, tuple[int, ...]]], size: int
) -> None:
    rng = np.random.default_rng(size + 1)
    differences = []
    for content in photographs:
        choose = chosen_by(rng.random(22))
        found = cropped(content, choose=choose, size=size)
        differences.append(np.abs(found - plainly_cropped(content, choose=choose, size=size)).mean())
    assert np.mean(differences) < 1
    assert max(differences) < 6
    assert len(scales) == len(photographs)
    assert {scale for scale, _ in scales} >= ({1, 2, 4, 8} if size == 96 else {1, 2, 4})


def test_a_box_is_moved_too_little_to_be_seen(photographs: list[bytes]) -> None:
    """Against the box that was asked for, not the one on the grid of the scaled image."""
    rng = np.random.default_rng(0)
    differences = []
    for content in photographs:
        for size in (96, 160, 224):
            choose = chosen_by(rng.random(22))
            image = decode(content, max_pixels=PHOTO_LIMIT)
            left, top, width, height = choose(*image.size)
            image = image.crop((left, top, left + width, top + height))
            wanted = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
            differences.append(np.abs(cropped(content, choose=choose, size=size) - wanted).mean())
    assert np.mean(differences) < 2


@pytest.mark.parametrize(
    ("box", "scale", "decoded"),
    [
        pytest.param((0, 0, 800, 600), 8, (75, 100, 3), id="an eighth"),
        pytest.param((8, 16, 512, 512), 8, (75, 100, 3), id="just an eighth"),
        pytest.param((8, 16, 520, 511), 4, (150, 200, 3), id="a pixel too low for an eighth"),
        pytest.param((8, 16, 255, 520), 2, (300, 400, 3), id="a pixel too narrow for a quarter"),
        pytest.param((7, 9, 128, 129), 2, (300, 400, 3), id="just a half"),
        pytest.param((7, 9, 127, 500), 1, (600, 800, 3), id="a pixel too narrow for a half"),
        pytest.param((7, 9, 30, 20), 1, (600, 800, 3), id="enlarged"),
    ],
)
def test_a_jpeg_is_decoded_as_small_as_leaves_the_crop_its_size(
    scales: list[tuple[float, tuple[int, ...]]], box: Box, scale: int, decoded: tuple[int, ...]
) -> None:
    content = encoded(scenery(800, 600), "JPEG", quality=95)
    found = cropped(content, choose=lambda width, height: box, size=64)
    assert scales == [(scale, decoded)]
    assert np.abs(found - plainly_cropped(content, choose=lambda width, height: box, size=64)).max() <= 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encoded(scenery(), kind, exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    left, top, width, height = box = (3, 5, 40, 42)
    wanted = upright.crop((left, top, left + width, top + height)).resize((40, 40), Image.Resampling.BILINEAR)
    found = cropped(content, choose=lambda width, height: box, size=40)
    assert np.abs(found - np.asarray(wanted)).mean() < 2


def test_an_orientation_in_xmp_is_undone() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    content = encoded(scenery(), "JPEG", xmp=xmp)
    seen = []

    def choose(width: int, height: int) -> Box:
        seen.append((width, height))
        return whole(width, height)

    cropped(content, choose=choose, size=16)
    assert seen == [(50, 70)]


def test_a_jpeg_with_harmless_segments_takes_the_fast_way(scales: list[tuple[float, tuple[int, ...]]]) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Kodak"
    content = encoded(scenery(), "JPEG", exif=exif, icc_profile=bytes(300), comment=b"hello", progressive=True)
    found = cropped(content, choose=whole, size=40)
    assert len(scales) == 1
    assert np.abs(found - plainly_cropped(content, choose=whole, size=40)).max() <= 4


def patched(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) == 1
    return content.replace(old, new)


JPEG = encoded(scenery(), "JPEG")
CMYK = encoded(scenery().convert("CMYK"), "JPEG")
SOF0 = b"\xff\xc0\x00\x11\x08"


@pytest.mark.parametrize(
    ("content", "result"),
    [
        pytest.param(b"", "not_an_image", id="nothing"),
        pytest.param(b"\xff\xd8\xff", "not_an_image", id="start of a JPEG"),
        pytest.param(JPEG[:-1], "broken_image", id="a byte short"),
        pytest.param(JPEG[:-200], "broken_image", id="cut"),
        pytest.param(JPEG[:300], "not_an_image", id="cut header"),
        pytest.param(JPEG + b"more", "an image", id="bytes after the end"),
        pytest.param(patched(JPEG, SOF0, SOF0[:-1] + b"\x0c"), "not_an_image", id="12 bits"),
        pytest.param(patched(JPEG, SOF0, b"\xff\xc9" + SOF0[2:]), "an image", id="arithmetic coding"),
        pytest.param(patched(JPEG, SOF0, b"\xff\xc3" + SOF0[2:]), "broken_image", id="not lossless"),
        pytest.param(
            patched(JPEG, SOF0 + b"\0\x32\0\x46", SOF0 + b"\xff\xff\xff\xff"), "decompression_bomb", id="bomb"
        ),
        pytest.param(CMYK, "an image", id="CMYK"),
        pytest.param(
            patched(CMYK, b"Adobe\x00\x64\x00\x00\x00\x00\x00", b"Adobe\x00d\0\0\0\0\2"), "an image", id="YCCK"
        ),
        pytest.param(encoded(scenery(1_001, 1_000), "JPEG"), "decompression_bomb", id="more than the limit"),
        pytest.param(JPEG[:2] + b"\xff\xfe\x00\x02" * 100 + JPEG[2:], "an image", id="hundred comments"),
        pytest.param(JPEG[:2] + b"\xff\xe1\x00\x0aExif\0\0II" + JPEG[2:], "an image", id="cut EXIF"),
        pytest.param(JPEG[:2] + b"\xff\xe0\x00\x07JFIF\0" + JPEG[2:], "not_an_image", id="cut JFIF"),
    ],
)
def test_an_odd_jpeg_is_judged_and_seen_as_pil_does(
    content: bytes, result: str, scales: list[tuple[float, tuple[int, ...]]]
) -> None:
    assert outcome(cropped, content) == outcome(plainly_cropped, content) == result
    if result == "an image" and not scales:
        found = cropped(content, choose=whole, size=40)
        assert np.abs(found - plainly_cropped(content, choose=whole, size=40)).max() <= 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encoded(noise(90, 70), "PNG"), id="PNG"),
        pytest.param(encoded(noise(90, 70), "BMP"), id="BMP"),
        pytest.param(encoded(noise(90, 70), "TIFF"), id="TIFF"),
        pytest.param(encoded(noise(90, 70), "WEBP"), id="WebP"),
        pytest.param(encoded(noise(90, 70).quantize(), "PNG"), id="palette"),
        pytest.param(encoded(grey16(), "PNG"), id="16 bits"),
        pytest.param(
            encoded(Image.merge("RGBA", (*noise(90, 70).split(), Image.new("L", (90, 70), 99))), "PNG"), id="alpha"
        ),
        pytest.param(
            encoded(noise(90, 70), "GIF", save_all=True, append_images=[Image.new("RGB", (90, 70))]), id="animated GIF"
        ),
        pytest.param(
            encoded(noise(90, 70), "WEBP", save_all=True, append_images=[Image.new("RGB", (90, 70))]),
            id="animated WebP",
        ),
        pytest.param(encoded(noise(1, 30_000), "PNG"), id="line down"),
        pytest.param(encoded(noise(30_000, 1), "PNG"), id="line across"),
        pytest.param(encoded(noise(1, 1), "PNG"), id="pixel"),
        pytest.param(encoded(noise(1, 1), "JPEG"), id="pixel in a JPEG"),
    ],
)
@pytest.mark.parametrize("size", [1, 16, 33, 120])
def test_other_images_are_cropped_and_scaled_as_pil_does(content: bytes, size: int) -> None:
    draws = np.random.default_rng(size).random(22)
    for choose in (chosen_by(draws), lambda width, height: centre_box(width, height, share=0.875), whole):
        found = cropped(content, choose=choose, size=size)
        assert np.abs(found - plainly_cropped(content, choose=choose, size=size)).max() <= 1


def test_a_long_jpeg_is_cropped() -> None:
    content = encoded(scenery(3, 30_000), "JPEG")
    found = cropped(content, choose=whole, size=16)
    assert np.abs(found - plainly_cropped(content, choose=whole, size=16)).mean() < 6


def test_an_image_too_large_for_the_kept_memory_is_cropped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = cropped(JPEG, choose=lambda width, height: (3, 5, 40, 42), size=24)
    monkeypatch.setattr(images, "SCRATCH_BYTES", 100)
    assert (cropped(JPEG, choose=lambda width, height: (3, 5, 40, 42), size=24) == kept).all()


def test_threads_do_not_share_their_memory() -> None:
    contents = [encoded(Image.new("RGB", (64 + 8 * n, 99), (n, n, n)), "JPEG") for n in range(0, 256, 8)] * 4
    contents += [encoded(Image.new("RGB", (64, 99), (n, n, n)), "PNG") for n in range(0, 256, 8)]
    with ThreadPoolExecutor(4) as pool:
        crops = list(pool.map(lambda content: cropped(content, choose=whole, size=32), contents))
    for n, crop in zip([*range(0, 256, 8)] * 5, crops, strict=True):
        assert (crop == n).all()


def test_a_refused_image_leaves_its_place_in_the_batch_alone() -> None:
    batch = np.full((3, 16, 16, 3), 99, np.uint8)
    with pytest.raises(BadImage):
        crop_into(JPEG[:-200], batch[1], choose=whole, max_pixels=LIMIT)
    assert (batch == 99).all()
    crop_into(JPEG, batch[1], choose=whole, max_pixels=LIMIT)
    assert (batch[[0, 2]] == 99).all()
    assert not (batch[1] == 99).all()


HOSTS = [
    JPEG,
    encoded(scenery(), "JPEG", progressive=True),
    encoded(scenery(), "JPEG", subsampling=0, restart_marker_rows=1),
    encoded(scenery().convert("L"), "JPEG"),
    encoded(scenery(), "PNG"),
]


@settings(max_examples=300, deadline=None)
@given(
    host=st.sampled_from(HOSTS),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 255)), max_size=4),
    end=st.integers(0, 3000) | st.none(),
    more=st.binary(max_size=12),
    at=st.sampled_from([2, 20]) | st.integers(0, 3000),
)
def test_a_damaged_file_is_refused_for_the_reason_that_the_plain_way_gives(
    host: bytes, changes: list[tuple[int, int]], end: int | None, more: bytes, at: int
) -> None:
    content = bytearray(host)
    for place, bits in changes:
        content[place % len(content)] ^= bits
    content[at:at] = more
    damaged = bytes(content[:end])
    assert outcome(cropped, damaged) == outcome(plainly_cropped, damaged)


@settings(max_examples=200, deadline=None)
@given(
    start=st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n"]), rest=st.binary(max_size=300)
)
def test_random_bytes_give_a_reason(start: bytes, rest: bytes) -> None:
    assert outcome(cropped, start + rest) == outcome(plainly_cropped, start + rest)


@pytest.mark.parametrize("cut", ["the last two bytes", "the last hundredth", "half"])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encoded(scenery(700, 500), "JPEG", quality=90), id="JPEG"),
        pytest.param(encoded(scenery(700, 500), "JPEG", progressive=True), id="progressive JPEG"),
        pytest.param(encoded(scenery(700, 500).convert("L"), "JPEG", restart_marker_rows=1), id="grey JPEG"),
        pytest.param(encoded(scenery(700, 500).convert("CMYK"), "JPEG"), id="CMYK JPEG"),
        pytest.param(encoded(scenery(700, 500), "PNG"), id="PNG"),
        pytest.param(encoded(scenery(700, 500).convert("P"), "GIF", interlace=0), id="GIF"),
        pytest.param(encoded(scenery(700, 500), "BMP"), id="BMP"),
        pytest.param(encoded(scenery(700, 500), "TIFF"), id="TIFF"),
    ],
)
def test_an_image_that_breaks_off_is_taken_as_far_as_it_goes_where_that_is_asked_for(content: bytes, cut: str) -> None:
    kept = {"half": len(content) // 2, "the last hundredth": len(content) * 99 // 100}.get(cut, len(content) - 2)
    broken, out, wanted = content[:kept], *np.full((2, 32, 32, 3), 99, np.uint8)
    # A PNG and a GIF are whole without what ends them.
    sound = outcome(cropped, broken) == "an image"
    assert sound == (cut == "the last two bytes" and content[:3] in (b"\x89PN", b"GIF"))
    assert crop_into(broken, out, choose=whole, max_pixels=LIMIT, take_truncated=True) == (not sound)
    crop_into(content, wanted, choose=whole, max_pixels=LIMIT)
    # A BMP lies upside down, and a progressive JPEG shows all of the picture, ever sharper.
    rows = slice(20, 32) if content.startswith(b"BM") else slice(0, 12)
    assert abs(out[rows].astype(int) - wanted[rows]).mean() < 4
    image = decode(broken, max_pixels=LIMIT, take_truncated=True)
    assert image.size == (700, 500)
    assert abs(out - plainly(image, size=32)).max() <= 3
    # Nothing of it stays behind, in this thread or in others.
    assert outcome(cropped, broken) == ("an image" if sound else "broken_image")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encoded(scenery(), "JPEG")[:100], "not_an_image"),
        (encoded(scenery(), "PNG")[:30], "not_an_image"),
        (encoded(scenery(), "WEBP")[:-9], "not_an_image"),
        (b"no picture", "not_an_image"),
        (bomb(1 << 14)[:-12], "decompression_bomb"),
    ],
)
def test_what_breaks_off_too_early_is_no_image_however_it_is_taken(content: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode(content, max_pixels=LIMIT, take_truncated=True)
