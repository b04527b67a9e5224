"""Pixels: every kind of image becomes upright opaque RGB, every other kind of bytes a reason, and crops equal PIL's."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from tests.forks import Forks
from trainer.data import images
from trainer.data.crops import Box, centre_box, on_grid, random_box
from trainer.data.image_files import FORMATS, PNG
from trainer.data.images import BadImage, Choose, crop_into, decode

LIMIT = 1_000_000
PHOTO_LIMIT = 89_478_485


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


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


def bomb(side: int) -> bytes:
    """A PNG that claims side x side pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


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


def whole(width: int, height: int) -> Box:
    return 0, 0, width, height


def cropped(content: bytes, *, choose: Choose, size: int, max_pixels: int = PHOTO_LIMIT) -> np.ndarray:
    out = np.full((size, size, 3), 99, np.uint8)
    crop_into(content, out, choose=choose, max_pixels=max_pixels)
    return out.astype(int)


def plainly_cropped(content: bytes, *, choose: Choose, size: int, max_pixels: int = PHOTO_LIMIT) -> np.ndarray:
    """What crop_into must give: PIL from start to end."""
    return plainly(decode(content, max_pixels=max_pixels), choose=choose, size=size)


def plainly(image: Image.Image, *, size: int, choose: Choose = whole) -> np.ndarray:
    (left, top, width, height), _ = on_grid(choose(*image.size), *image.size, size=size)
    image = image.crop((left, top, left + width, top + height))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).astype(int)


def chosen_by(draws: np.ndarray) -> Choose:
    return lambda width, height: random_box(width, height, draws, min_area=0.08)


def outcome(crop: Callable[..., np.ndarray], content: bytes, *, max_pixels: int = LIMIT) -> str:
    try:
        crop(content, choose=whole, size=16, max_pixels=max_pixels)
    except BadImage as bad:
        return str(bad)
    return "an image"


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8))


def scenery(width: int = 70, height: int = 50) -> Image.Image:
    """Soft slopes of colour, different on each side, that survive JPEG."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - (across + down) / 2], axis=-1).astype(np.uint8))


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
    """Of each JPEG that the fast way decoded: the denominator of its scale, and the shape that came out."""
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
