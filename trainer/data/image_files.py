"""Image files: untrusted bytes to an image that PIL has decoded within a bound of memory, or `BadImage` with a reason.

memory    bytes a pixel that a decoder holds at once: for most formats PIL's own image; for WebP four canvases of
          its animation decoder; for TIFF a strip besides, which may be the whole image; for a progressive JPEG all
          its coefficients. A JPEG is decoded at a fraction of its size if the crop is much larger than the model's
          input
text      a PNG that PIL refuses for its large text is opened again without the text
broken    PIL refuses truncated files, unless a thread decodes them as far as they go (`TakingTruncated`)
"""

from __future__ import annotations

import ctypes
import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, TiffImagePlugin, features

# The formats that image tars hold. PostScript and the like would run programs.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM")
if "avif" in features.modules and features.check("avif"):  # of Pillow 11.3 and later, as its wheels are built
    FORMATS += ("AVIF",)
# Errors of PIL's decoders for malformed bytes. MemoryError is not among them: for an image within the bound it says
# that the machine is short of memory.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)
# Bytes that a decoder may hold for each pixel of the largest permitted image, or for each byte of the file.
# Photographs need up to 300 a byte in WebP, where a single colour needs thousands, and 430 in a progressive JPEG.
BYTES_PER_PIXEL = 4
BYTES_PER_FILE_BYTE = 384
# Bytes a pixel in PIL's modes, if not 4.
MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
WEBP_BYTES = 16
# Chunks of a PNG without pixels, which PIL decompresses.
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
PNG = b"\x89PNG\r\n\x1a\n"


class BadImage(Exception):  # noqa: N818
    """An image that is skipped and counted; the only argument is the reason, as written to bad_samples.jsonl."""


class _Quiet:
    """Silences warnings while any thread is inside.

    `warnings.catch_warnings` alone would let one thread's exit undo another's entry.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


class TakingTruncated(threading.local):
    """Context that sets PIL's LOAD_TRUNCATED_IMAGES, which is global, for the threads inside alone.

    PIL then decodes truncated files as far as they go, and leaves the rest grey (JPEG), black or in the first colour.
    It does so with JPEG, PNG, GIF, BMP and uncompressed TIFF.
    """

    inside = False

    def __bool__(self) -> bool:
        return self.inside

    def __enter__(self) -> None:
        # Through vars(), because it is typed as a bool; PIL asks for its truth value only.
        vars(ImageFile)["LOAD_TRUNCATED_IMAGES"] = self
        self.inside = True

    def __exit__(self, *exception: object) -> None:
        self.inside = False


TAKING_TRUNCATED = TakingTruncated()
# PIL warns of corrupt EXIF, odd palettes and large images; what matters becomes a reason.
QUIET = _Quiet()


@contextmanager
def refusing(reason: str) -> Iterator[None]:
    """Turn PIL's errors about the bytes of an image into BadImage: decompression_bomb, or else the given reason."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise BadImage("decompression_bomb") from error
    except DECODE_ERRORS as error:
        raise BadImage(reason) from error


def open_image(content: bytes, *, max_pixels: int) -> ImageFile.ImageFile:
    """Open an image and read its header. Raises BadImage: not_an_image, decompression_bomb."""
    with refusing("not_an_image"):
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    if any(tile.codec_name == "ppm_plain" for tile in image.tile):
        raise BadImage("not_an_image")  # numbers as text, which PIL reads in Python, about a hundred times slower
    if image.width * image.height > max_pixels:
        raise BadImage("decompression_bomb")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _silence_tiff()
    return image


def load(image: ImageFile.ImageFile, *, file_bytes: int, max_pixels: int, step: int = 1) -> None:
    """Decode the pixels of an open image, of a JPEG at 1/step of its width and height. `file_bytes`: size of the file.

    Raises BadImage: decompression_bomb if decoding needs too much memory, broken_image.
    """
    with refusing("broken_image"):
        # No format needs more for a pixel than WebP. A TIFF may claim tiles larger than itself, in a long file.
        large_file = min(BYTES_PER_FILE_BYTE * file_bytes, WEBP_BYTES * max_pixels)
        if memory_of(image, step=step) > max(BYTES_PER_PIXEL * max_pixels, large_file):
            raise BadImage("decompression_bomb")
        if step > 1:
            image.draft(image.mode, (image.width // step, image.height // step))
        image.load()


def memory_of(image: ImageFile.ImageFile, *, step: int = 1) -> int:
    """Memory that is needed at once to decode an open image, bytes."""
    pixels, own = image.width * image.height, MODE_BYTES.get(image.mode, 4)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        widest, highest = (max((part[axis] for part in image.layer), default=1) for axis in (1, 2))
        samples = sum(part[1] * part[2] for part in image.layer) / max(1, widest * highest)
        coefficients = 2 * samples if image.info.get("progressive") else 0
        return int((own / step**2 + coefficients) * pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return own * pixels + _strip_bytes(image)
    return (WEBP_BYTES if image.format == "WEBP" else own) * pixels


def _strip_bytes(image: TiffImagePlugin.TiffImageFile) -> int:
    """Size of a strip or tile of a TIFF, bytes; one is decoded at a time."""
    tags = image.tag_v2
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (8,))
    samples = max(len(bits), tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
    strip = image.width * min(image.height, tags.get(TiffImagePlugin.ROWSPERSTRIP, image.height))
    tile = tags.get(TiffImagePlugin.TILEWIDTH, 0) * tags.get(TiffImagePlugin.TILELENGTH, 0)
    return int(max(bits) * samples * max(strip, tile) // 8)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) if there is none or it cannot be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODE_ERRORS:
        return 1
    return orientation if orientation in range(2, 9) else 1


def without_text(content: bytes) -> bytes | None:
    """A PNG without its text and colour profile; None for a file that has neither."""
    if not content.startswith(PNG):
        return None
    kept, position, dropped = [PNG], len(PNG), False
    while len(content) - position >= 12:
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        if content[position + 4 : position + 8] in TEXT_CHUNKS:
            dropped = True
        else:
            kept.append(content[position:end])
        position = end
    return b"".join(kept) if dropped else None


@cache
def _silence_tiff() -> None:
    """Keep libtiff and PIL's log from writing about broken files to stderr: what matters becomes a reason.

    PIL has no switch for libtiff's messages, so they are switched off in the library that PIL has loaded.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    for line in Path("/proc/self/maps").read_text().splitlines():
        name = line.partition("/")[2]
        if Path(name).name.startswith("libtiff"):
            library = ctypes.CDLL(f"/{name}")
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)
            return
