"""Peers of the feed: two pipelines, bare JPEG decoding, and the plain way to crop.

In: tars. Out: endless batches of float tensors, ready for a model, made in this process.

    timm        webdataset, PIL, timm's `create_transform`, torch's DataLoader with its default collation
    open_clip   `open_clip_train.data.get_wds_dataset` with `open_clip.image_transform`, as its own trainer calls them

timm's colour jitter and automatic augmentation, which its training turns on, are off: ours has nothing like them. In
place of open_clip's tokenizer stands a function that returns the same tensor each time.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader

from vocab.errors import MissingRequirementError

Floats = Float[Tensor, "batch 3 size size"]

# timm shuffles samples in a buffer of this size unless told otherwise (timm.data.readers).
TIMM_SHUFFLE = 8192
# open_clip counts an epoch in samples, and starts anew behind it; longer than any run here.
OPEN_CLIP_SAMPLES = 1_000_000_000
# Reads all JPEGs, says so, and decodes as many as each line asks for.
DECODE = """
import sys, tarfile, time
import simplejpeg
contents = []
for name in sys.argv[1:]:
    with tarfile.open(name) as archive:
        contents += [archive.extractfile(member).read() for member in archive if member.name.endswith(".jpg")]
print("ready", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    for number in range(int(line)):
        simplejpeg.decode_jpeg(contents[number % len(contents)])
    print(time.perf_counter() - start, flush=True)
"""


def require_peers() -> None:
    """Raise MissingRequirementError if a peer is not installed."""
    missing = [
        name for name in ("webdataset", "open_clip", "open_clip_train") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise MissingRequirementError(
            "the feed's peers",
            found=f"no package {' and '.join(missing)}",
            wanted="webdataset and open_clip_torch",
            remedy="Install them with: pip install '.[peers]'",
        )


def timm_batches(tars: Sequence[Path], *, image_size: int, batch_size: int) -> Iterator[Floats]:
    """Batches as a training run on timm's transforms gets them."""
    import webdataset
    from timm.data.transforms_factory import create_transform

    unlike_training: dict[str, Any] = {"color_jitter": None, "auto_augment": None}
    transform = create_transform(image_size, is_training=True, interpolation="bicubic", **unlike_training)

    def decode(sample: dict[str, Any]) -> tuple[Tensor, int]:
        with Image.open(io.BytesIO(sample["jpg"])) as image:
            pixels: Tensor = transform(image.convert("RGB"))
        return pixels, 0

    dataset = webdataset.WebDataset([str(tar) for tar in tars], shardshuffle=len(tars), seed=0)
    endless = dataset.shuffle(TIMM_SHUFFLE).map(decode).repeat()
    for images, _ in DataLoader(endless, batch_size=batch_size, num_workers=0):
        yield images


def open_clip_batches(tars: Sequence[Path], *, image_size: int, batch_size: int) -> Iterator[Floats]:
    """Batches as open_clip's own trainer gets them, without worker processes."""
    import open_clip
    from open_clip_train import data as open_clip_data
    from webdataset.tariterators import tar_file_expander

    # webdataset marks the end of each tar since 0.2.96, which open_clip 3 takes for a broken sample (open_clip #935).
    open_clip_data.tar_file_expander = partial(tar_file_expander, eof_value=None)
    tokens = torch.zeros(1, 77, dtype=torch.int64)
    options = argparse.Namespace(
        train_data="::".join(str(tar) for tar in tars),
        train_num_samples=OPEN_CLIP_SAMPLES,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        batch_size=batch_size,
        workers=0,
        world_size=1,
        seed=0,
    )
    transform = open_clip.image_transform(image_size, is_train=True)
    data = open_clip_data.get_wds_dataset(options, transform, is_train=True, tokenizer=lambda _: tokens)
    for images, _ in data.dataloader:
        yield images


@dataclass(frozen=True)
class Crop:
    """Crop of an image: the box (left, top, right, bottom) in pixels, and whether it is mirrored."""

    box: tuple[int, int, int, int]
    mirrored: bool


Choose = Callable[[int, int], Crop]
"""the crop of an image of a width and a height"""


def plain_crop(content: bytes, choose: Choose, *, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The crop by PIL alone: everything decoded, then the box resized with its bilinear filter."""
    with Image.open(io.BytesIO(content)) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    crop = choose(*image.size)
    resized = image.resize((size, size), Image.Resampling.BILINEAR, box=crop.box)
    return np.asarray(ImageOps.mirror(resized) if crop.mirrored else resized)


class Decoders:
    """Processes that do nothing but decode the JPEGs of some tars with simplejpeg; they wait between two tasks."""

    def __init__(self, tars: Sequence[Path], *, count: int) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-c", DECODE, *map(str, tars)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
            for _ in range(count)
        ]
        for process in self._processes:
            self._line_of(process)

    def rate(self, *, processes: int, images: int) -> float:
        """Images per second of so many processes together, each of which decodes `images`."""
        chosen = self._processes[:processes]
        for process in chosen:
            assert process.stdin is not None
            process.stdin.write(f"{images}\n")
            process.stdin.flush()
        slowest = max(float(self._line_of(process)) for process in chosen)
        return processes * images / slowest

    @staticmethod
    def _line_of(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise MissingRequirementError(
                "bare decoding",
                found="a process that ended",
                wanted="one that decodes",
                remedy="Its message is above; simplejpeg is part of the extra trainer.",
            )
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.communicate()
