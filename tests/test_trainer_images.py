"""Decoding: every kind of image becomes upright opaque RGB, and every other kind of bytes a reason."""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from tests.encoded_images import (
    LIMIT,
    PHOTO_LIMIT,
    bomb,
    chunk,
    cropped,
    encoded,
    grey16,
    noise,
    outcome,
    plainly_cropped,
    scenery,
    whole,
)
from tests.forks import Forks
from trainer.data.crops import centre_box
from trainer.data.image_files import FORMATS, PNG
from trainer.data.images import BadImage, crop_into, decode


def colour_of(content: bytes) -> tuple[int, ...]:
    image = decode(content, max_pixels=LIMIT)
    assert image.mode == "RGB"
    return tuple(np.asarray(image).reshape(-1, 3).mean(0).round().astype(int).tolist())


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
        pytest.param(encoded(Image.new("RGB", (8, 8), (9, 90, 200)), "PPM"), (9, 90, 200), id="ppm"),
        pytest.param(b"P5 2 2 65535\n" + b"\x80\x00" * 4, (128, 128, 128), id="pgm of 16 bits"),
        pytest.param(encoded(Image.new("1", (8, 8), 0), "PPM"), (0, 0, 0), id="pbm"),
        pytest.param(encoded(Image.new("RGB", (8, 8), (9, 90, 200)), "DIB"), (9, 90, 200), id="dib"),
    ],
)
def test_every_kind_of_image_becomes_opaque_rgb(content: bytes, colour: tuple[int, ...]) -> None:
    assert colour_of(content) == colour


def ramp(last: float, kind: type[np.generic], *, first: float = 0) -> Image.Image:
    """Numbers that rise from the left to the right edge."""
    return Image.fromarray(np.tile(np.linspace(first, last, 5), (3, 1)).astype(kind))


def with_nan() -> Image.Image:
    pixels = np.full((3, 5), 0.5, np.float32)
    pixels[1, 1] = np.nan
    return Image.fromarray(pixels)


def tiff_of(pixels: np.ndarray, *, photometric: int = 1, sample_format: int = 1, bits: int | None = None) -> bytes:
    """An uncompressed TIFF of one number a pixel, in the byte order of the pixels."""
    order = ">" if pixels.dtype.byteorder == ">" else "<"
    body, (height, width) = pixels.tobytes(), pixels.shape
    fields = [(256, width), (257, height), (258, bits or 8 * pixels.itemsize), (259, 1), (262, photometric)]
    fields += [(273, 8 + 2 + 12 * 10 + 4), (277, 1), (278, height), (279, len(body)), (339, sample_format)]
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in fields)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(fields))
    return head + entries + bytes(4) + body


GREYS = [0, 64, 128, 191, 255]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encoded(ramp(1, np.float32), "TIFF"), id="floats to 1"),
        pytest.param(encoded(ramp(255, np.float32), "TIFF"), id="floats to 255"),
        pytest.param(encoded(ramp(65535, np.float32), "TIFF"), id="floats to 65,535"),
        pytest.param(encoded(ramp(255, np.uint16), "TIFF"), id="16 bits to 255"),
        pytest.param(encoded(ramp(65535, np.uint16), "TIFF"), id="16 bits"),
        pytest.param(encoded(ramp(255, np.uint16), "PNG"), id="PNG of 16 bits to 255"),
        pytest.param(encoded(ramp(65535, np.uint16), "PNG"), id="PNG of 16 bits"),
        pytest.param(encoded(ramp(255, np.int32), "TIFF"), id="32 bits to 255"),
        pytest.param(encoded(ramp(65535, np.int32), "TIFF"), id="32 bits to 65,535"),
        pytest.param(tiff_of(np.asarray(ramp(255, np.uint16)).astype(">u2")), id="big-endian"),
        pytest.param(tiff_of(np.asarray(ramp(1, np.float32)).astype(">f4"), sample_format=3), id="big-endian floats"),
        pytest.param(tiff_of(65535 - np.asarray(ramp(65535, np.uint16)), photometric=0), id="white is zero"),
        pytest.param(tiff_of(np.asarray(ramp(255, np.int16)), sample_format=2), id="signed"),
    ],
)
def test_numbers_of_any_range_become_grey(content: bytes) -> None:
    found = np.asarray(decode(content, max_pixels=LIMIT))[1, :, 0].astype(int)
    assert np.abs(found - GREYS).max() <= 1
    assert np.abs(cropped(content, choose=whole, size=3) - plainly_cropped(content, choose=whole, size=3)).max() <= 1


def png_of_16_bits(value: int, *, kind: int, channels: int) -> bytes:
    rows = (b"\0" + struct.pack(">H", value) * channels * 4) * 4
    header = struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encoded(ramp(10, np.float32), "TIFF"), id="floats to 10"),
        pytest.param(encoded(ramp(1, np.float32, first=-1), "TIFF"), id="floats below 0"),
        pytest.param(encoded(with_nan(), "TIFF"), id="NaN"),
        pytest.param(encoded(Image.new("F", (5, 3), np.inf), "TIFF"), id="infinity"),
        pytest.param(encoded(ramp(1000, np.uint16), "PNG"), id="16 bits to 1,000"),
        pytest.param(encoded(ramp(1 << 30, np.int32), "TIFF"), id="32 bits"),
        pytest.param(encoded(ramp(255, np.int32, first=-255), "TIFF"), id="32 bits below 0"),
        pytest.param(png_of_16_bits(200, kind=2, channels=3), id="colours of 16 bits to 200"),
        pytest.param(png_of_16_bits(200, kind=6, channels=4), id="colours of 16 bits with alpha to 200"),
    ],
)
def test_numbers_of_an_unknown_range_are_a_bad_image_not_a_black_one(content: bytes) -> None:
    for crop in (cropped, plainly_cropped):
        assert outcome(crop, content) == "unknown_range"


def without_adobe(content: bytes) -> bytes:
    start = content.index(b"\xff\xee")
    return content[:start] + content[start + 2 + int.from_bytes(content[start + 2 : start + 4], "big") :]


RED, NEGATIVE_RED = (0, 255, 255, 0), (255, 0, 0, 255)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encoded(Image.new("CMYK", (8, 8), RED), "JPEG"), id="Adobe's"),
        pytest.param(without_adobe(encoded(Image.new("CMYK", (8, 8), RED), "JPEG")), id="inverted"),
        pytest.param(without_adobe(encoded(Image.new("CMYK", (8, 8), NEGATIVE_RED), "JPEG")), id="not inverted"),
        pytest.param(encoded(Image.new("CMYK", (8, 8), RED), "TIFF"), id="TIFF"),
    ],
)
def test_red_of_four_inks_is_red(content: bytes) -> None:
    assert colour_of(content) == (255, 0, 0)


TEXT = b"Comment\0\0" + zlib.compress(bytes(5_000_000))


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param([(b"zTXt", TEXT)], id="a large text"),
        pytest.param([(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + TEXT[9:])], id="large XMP"),
        pytest.param([(b"iCCP", TEXT)], id="a large profile"),
        pytest.param([(b"tEXt", b"Comment\0" + bytes(1 << 20))] * 66, id="much text"),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_text_refuses_no_pixels_of_a_png(extra: list[tuple[bytes, bytes]], behind: bool) -> None:
    plain = encoded(scenery(), "PNG")
    place = len(plain) - 12 if behind else 33
    content = plain[:place] + b"".join(chunk(*each) for each in extra) + plain[place:]
    assert (cropped(content, choose=whole, size=16) == cropped(plain, choose=whole, size=16)).all()
    assert decode(content, max_pixels=LIMIT) == decode(plain, max_pixels=LIMIT)


def costs(folder: Path) -> None:
    """Write down by how much each file of a folder raises this process's memory while it is cropped, in bytes."""
    out, peaks = np.zeros((64, 64, 3), np.uint8), {}

    def peak(field: str) -> int:
        return 1024 * int(Path("/proc/self/status").read_text().partition(f"{field}:")[2].split()[0])

    for file in [*folder.glob("small*"), *folder.iterdir()]:
        Path("/proc/self/clear_refs").write_text("5")
        before, content = peak("VmRSS"), file.read_bytes()
        crop_into(content, out, choose=partial(centre_box, share=0.875), max_pixels=PHOTO_LIMIT)
        peaks[file.stem] = peak("VmHWM") - before
    (folder / "costs.json").write_text(json.dumps(peaks))


def test_a_small_file_costs_no_more_memory_than_pil_has_for_its_pixels(forks: Forks, tmp_path: Path) -> None:
    large, turned = (5000, 4000), Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    files = {
        "small": (encoded(scenery(), "PNG"), 4),
        "1": (encoded(Image.new("1", large), "PNG"), 1),
        "palette": (encoded(Image.new("P", large), "PNG", transparency=0), 1),
        "GIF": (encoded(Image.new("P", large), "GIF"), 1),
        "RGB": (encoded(Image.new("RGB", large), "PNG"), 4),
        "RGBA": (encoded(Image.new("RGBA", large), "PNG"), 4),
        "turned": (encoded(Image.new("RGB", large), "PNG", exif=turned), 4),
        "16": (encoded(Image.new("I;16", large), "PNG"), 2),
        "G4": (encoded(Image.new("1", large), "TIFF", compression="group4"), 1),
        "F": (encoded(Image.new("F", large), "TIFF", compression="tiff_adobe_deflate"), 4),
        "CMYK": (encoded(Image.new("CMYK", large), "JPEG"), 0),
        "turned JPEG": (encoded(Image.new("RGB", large), "JPEG", exif=turned), 0),
        "progressive": (encoded(Image.new("RGB", large), "JPEG", progressive=True), 3),
    }
    for name, (content, _) in files.items():
        (tmp_path / f"{name}.image").write_bytes(content)
    forks.run(1, tmp_path.parent / "log", costs, tmp_path)
    found = json.loads((tmp_path / "costs.json").read_text())
    pixels, parts = large[0] * large[1], 40 << 20
    wrong = {name: found[name] for name, (_, each) in files.items() if found[name] > each * pixels + parts}
    assert not wrong


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        pytest.param(encoded(Image.new("1", (500, 500)), "PNG"), True, id="a byte a pixel"),
        pytest.param(encoded(Image.new("RGB", (500, 500)), "PNG"), True, id="PNG"),
        pytest.param(encoded(Image.new("RGB", (500, 500)), "JPEG"), True, id="JPEG"),
        pytest.param(encoded(Image.new("RGB", (500, 500)), "JPEG", progressive=True), True, id="progressive JPEG"),
        pytest.param(encoded(Image.new("RGB", (500, 500)), "JPEG", progressive=True, subsampling=0), False, id="4:4:4"),
        pytest.param(encoded(Image.new("RGB", (500, 500)), "WEBP"), False, id="WebP"),
        pytest.param(
            encoded(Image.new("RGB", (500, 500)), "TIFF", compression="tiff_lzw", tiffinfo={278: 500}),
            False,
            id="TIFF of one strip",
        ),
        pytest.param(encoded(Image.new("RGB", (490, 490)), "TIFF", tiffinfo={278: 8}), True, id="TIFF of strips"),
    ],
)
def test_what_a_decoder_holds_at_once_is_bounded(content: bytes, kept: bool) -> None:
    found = outcome(cropped, content, max_pixels=250_000)
    assert found == ("an image" if kept else "decompression_bomb")


def test_a_long_file_may_not_claim_what_no_picture_needs() -> None:
    # Width, height, bits, LZW, black is 0, one number a pixel; one tile, whose sides, place and length follow.
    tags = {256: 500, 257: 500, 258: 8, 259: 5, 262: 1, 277: 1, 322: 8192, 323: 8192, 324: 200, 325: 1 << 20}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    tiff = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(1 << 20)
    assert outcome(cropped, tiff, max_pixels=250_000) == "decompression_bomb"


def test_broken_files_write_nothing_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"):
        whole_file = encoded(
            noise(47, 33).convert("1" if compression == "group4" else "RGB"), "TIFF", compression=compression
        )
        for place in range(8, len(whole_file), 97):
            broken = bytearray(whole_file)
            broken[place : place + 8] = b"\xff" * 8
            with contextlib.suppress(BadImage):
                decode(bytes(broken), max_pixels=LIMIT)
    assert capfd.readouterr().err == ""


def test_a_photograph_on_its_side_is_set_upright() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    lying = encoded(Image.new("RGB", (30, 10)), "JPEG", exif=exif)
    assert decode(lying, max_pixels=LIMIT).size == (10, 30)


def test_a_black_picture_of_16_bits_a_pixel_is_an_image() -> None:
    header = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 16, 0, 32, 0, 0, 0, 0)
    content = b"BM" + struct.pack("<IHHI", 54 + 32, 0, 0, 54) + header + bytes(32)
    assert np.asarray(decode(content, max_pixels=LIMIT)).max() == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"no image", "not_an_image", id="text"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image", id="PostScript"),
        pytest.param(encoded(Image.new("RGB", (24, 20)), "PNG")[:20], "not_an_image", id="half a header"),
        pytest.param(encoded(Image.effect_noise((99, 99), 50), "JPEG")[:-300], "broken_image", id="cut JPEG"),
        pytest.param(b"P3 1 1 255\n1 2 3\n", "not_an_image", id="PPM in figures"),
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
@given(at=st.integers(0, 600), byte=st.integers(0, 255), kind=st.sampled_from(FORMATS))
def test_a_changed_byte_gives_an_image_or_a_reason(at: int, byte: int, kind: str) -> None:
    content = bytearray(encoded(Image.new("RGB", (9, 7), (90, 120, 40)), kind))
    content[at % len(content)] = byte
    with contextlib.suppress(BadImage):
        assert decode(bytes(content), max_pixels=LIMIT).mode == "RGB"
