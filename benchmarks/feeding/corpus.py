"""The corpora of the feed's benchmarks: photographs re-encoded in three sizes, and very many very small pictures.

In: images/ of the folder with real data. Out: tars as img2dataset writes them, label shards and a vocabulary.

    FOLDER/images/00000.tar ...   000000000.jpg 000000000.json 000000000.txt 000000001.jpg ...
    FOLDER/labels/                what `pipeline label` would leave
    FOLDER/vocabulary.parquet     counted from these labels
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from vocab import labeler, wordnet
from vocab.errors import InputError
from vocab.store.label_shards import SCHEMA, LabelShards
from vocab.store.label_writing import write_label_shards
from vocab.store.tars import BLOCK, split_name
from vocab.vocabulary import Vocabulary

FOLDERS = ("coco_ccby", "cc12m")

Kind = Literal["native", "512", "256"]
KINDS: tuple[Kind, ...] = ("native", "512", "256")
# What img2dataset leaves of photographs from the web when it resizes nothing but the large ones.
NATIVE_PIXELS = 200_000
QUALITY = 90

SMALL_SIDE = 32
DISTINCT_SMALL = 16
# Synsets of the made-up labels, and how many a row has at most; both as real captions have them.
CLASSES = 10_000
MOST_SYNSETS = 6


@dataclass(frozen=True)
class Corpus:
    """A folder with images/, labels/ and vocabulary.parquet, and what its samples become."""

    folder: Path
    image_size: int
    batch_size: int

    @property
    def tars(self) -> list[Path]:
        """Its tars, sorted."""
        return sorted((self.folder / "images").glob("*.tar"))

    @property
    def labels(self) -> Path:
        """The label directory."""
        return self.folder / "labels"

    @property
    def vocabulary(self) -> Path:
        """The vocabulary counted from it."""
        return self.folder / "vocabulary.parquet"


@dataclass(frozen=True)
class Photograph:
    """One real photograph with the first of its captions."""

    content: bytes
    """bytes of the file in its tar"""
    caption: str


def read_photographs(data: Path) -> list[Photograph]:
    """Every photograph of the data's tars, in order. Raises InputError where there are none."""
    found: list[Photograph] = []
    for tar in [tar for folder in FOLDERS for tar in sorted((data / "images" / folder).glob("*.tar"))]:
        samples = read_samples(tar)
        found += [Photograph(sample["jpg"], sample["txt"].decode()) for sample in samples.values()]
    if not found:
        raise InputError(
            data / "images",
            found=f"no tars in {' or '.join(FOLDERS)}",
            wanted="the photographs that the feed is measured on",
            remedy="Point --data or CATLIP_DATA at the folder with real data.",
        )
    return found


def read_samples(tar: Path) -> dict[str, dict[str, bytes]]:
    """Members of each sample by extension, of a tar that is known to be sound."""
    samples: dict[str, dict[str, bytes]] = {}
    with tarfile.open(tar) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                key, extension = split_name(member.name)
                samples.setdefault(key, {})[extension] = file.read()
    return samples


def target_size(width: int, height: int, kind: Kind) -> tuple[int, int]:
    """Width and height of a photograph in one of the kinds; its shape stays."""
    scale = math.sqrt(NATIVE_PIXELS / (width * height)) if kind == "native" else int(kind) / min(width, height)
    return round(width * scale), round(height * scale)


@dataclass(frozen=True)
class Encoded:
    """A photograph in one of the kinds."""

    content: bytes
    size: tuple[int, int]
    original: tuple[int, int]

    @property
    def upscaled(self) -> bool:
        """Tell whether the picture has more pixels than the photograph it was made from."""
        return math.prod(self.size) > math.prod(self.original)


def encode(photograph: Photograph, kind: Kind) -> Encoded:
    """The photograph as a JPEG of quality 90 in the kind's size (Lanczos)."""
    with Image.open(io.BytesIO(photograph.content)) as image:
        size = target_size(*image.size, kind)
        buffer = io.BytesIO()
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=QUALITY)
        return Encoded(buffer.getvalue(), size, image.size)


def write_photographs(
    folder: Path,
    photographs: Sequence[Photograph],
    *,
    kind: Kind | None,
    samples: int,
    tars: int,
    image_size: int,
    batch_size: int,
) -> tuple[Corpus, dict[str, float]]:
    """A corpus of the photographs, again and again under new keys, in one of the kinds; as they are if None.

    Its labels are those of the captions. Beside it what its samples are like: share upscaled, megapixels, kilobytes.
    """
    if kind is None:
        distinct = [Encoded(photograph.content, size, size) for photograph, size in _sizes(photographs)]
    else:
        distinct = [encode(photograph, kind) for photograph in photographs]
    synsets = labeler.load().label(pa.array([photograph.caption for photograph in photographs], pa.string()))
    per_tar = math.ceil(samples / tars)
    rows: list[tuple[str, str, list[int]]] = []
    for tar in range(tars):
        members: dict[str, bytes] = {}
        for number in range(tar * per_tar, min((tar + 1) * per_tar, samples)):
            place = number % len(photographs)
            key = f"{tar:05d}{number % per_tar:04d}"
            members |= _members(key, photographs[place], distinct[place])
            rows.append((f"{tar:05d}", key, synsets[place].as_py()))
        write_tar(folder / "images" / f"{tar:05d}.tar", members)
    write_labels(folder, pa.table([list(column) for column in zip(*rows, strict=True)], schema=SCHEMA))
    about = {
        "upscaled": round(sum(image.upscaled for image in distinct) / len(distinct), 3),
        "megapixels": round(float(np.mean([math.prod(image.size) for image in distinct])) / 1e6, 3),
        "kilobytes": round(float(np.mean([len(image.content) for image in distinct])) / 1e3, 1),
    }
    return Corpus(folder, image_size, batch_size), about


def _sizes(photographs: Sequence[Photograph]) -> list[tuple[Photograph, tuple[int, int]]]:
    return [(photograph, Image.open(io.BytesIO(photograph.content)).size) for photograph in photographs]


def _members(key: str, photograph: Photograph, image: Encoded) -> dict[str, bytes]:
    about = {
        "caption": photograph.caption,
        "url": f"https://example.com/{key}.jpg",
        "key": key,
        "status": "success",
        "error_message": None,
        "width": image.size[0],
        "height": image.size[1],
        "exif": "{}",
        "original_width": image.original[0],
        "original_height": image.original[1],
    }
    return {
        f"{key}.jpg": image.content,
        f"{key}.json": json.dumps(about, indent=4).encode(),
        f"{key}.txt": photograph.caption.encode(),
    }


def write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    """A tar of the members, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_labels(folder: Path, rows: pa.Table) -> None:
    """labels/ and vocabulary.parquet of a corpus."""
    write_label_shards(folder / "labels", rows, labeler="benchmark", fingerprint="0" * 64, parts=4)
    labels = LabelShards.open(folder / "labels", checksums=False)
    vocabulary = Vocabulary.from_counts(labels.counts(), rows=len(rows), min_count=1, sources=(labels.counts_sha256,))
    vocabulary.save(folder / "vocabulary.parquet")


def write_small(
    folder: Path,
    photographs: Sequence[Photograph],
    *,
    tars: int,
    samples: int,
    label_shards: int,
    image_size: int,
    batch_size: int,
) -> Corpus:
    """`tars` tars of `samples` 32-pixel pictures each, and labels for as many samples of `label_shards` such tars.

    A sample has its picture and a caption, no json: half a million of them are 1.3 GB.
    """
    archives = small_archives(photographs)
    (folder / "images").mkdir(parents=True)
    for tar in range(tars):
        (folder / "images" / f"{tar:05d}.tar").write_bytes(archives(tar, samples))
    write_labels(folder, made_up_labels(shards=label_shards, samples=samples, seed=0))
    return Corpus(folder, image_size, batch_size)


def small_archives(photographs: Sequence[Photograph]) -> Callable[[int, int], bytes]:
    """A maker of whole tars from (number, samples): keys and checksums are written into copies of a few samples.

    Equal to tarfile's own archive of the same members, and a hundred times as fast.
    """
    pictures = _small_pictures(photographs)
    blank = "0" * 9
    patterns = np.stack([_sample_blocks({f"{blank}.jpg": picture, f"{blank}.txt": b"small"}) for picture in pictures])
    headers = [at for at in range(0, patterns.shape[1], BLOCK) if bytes(patterns[0, at : at + 9]) == blank.encode()]

    def archive(tar: int, samples: int) -> bytes:
        numbers = np.arange(samples)
        blocks = patterns[numbers % len(patterns)]
        digits = np.concatenate([_digits(np.full(samples, tar), 5), _digits(numbers, 4)], axis=1)
        for at in headers:
            blocks[:, at : at + 9] += digits
            # The checksum: six octal digits, of the sum of the header's bytes with blanks in the checksum's place.
            blocks[:, at + 148 : at + 156] = ord(" ")
            sums = blocks[:, at : at + BLOCK].sum(axis=1, dtype=np.int64)
            blocks[:, at + 148 : at + 154] = ord("0") + ((sums[:, None] >> np.arange(15, -1, -3)) & 7)
            blocks[:, at + 154] = 0
        content = blocks.tobytes() + bytes(2 * BLOCK)
        return content + bytes(-len(content) % tarfile.RECORDSIZE)

    return archive


def _small_pictures(photographs: Sequence[Photograph]) -> list[bytes]:
    """Some of the photographs at 32 by 32, those that fill the usual number of blocks."""
    found: list[bytes] = []
    for photograph in photographs[: 4 * DISTINCT_SMALL]:
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(photograph.content)) as image:
            image.convert("RGB").resize((SMALL_SIDE, SMALL_SIDE)).save(buffer, "JPEG", quality=75)
        found.append(buffer.getvalue())
    usual = Counter(math.ceil(len(picture) / BLOCK) for picture in found).most_common(1)[0][0]
    return [picture for picture in found if math.ceil(len(picture) / BLOCK) == usual][:DISTINCT_SMALL]


def _sample_blocks(members: Mapping[str, bytes]) -> NDArray[np.uint8]:
    """[bytes] one sample's headers and contents, as a tar holds them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        end = archive.offset
    return np.frombuffer(buffer.getvalue()[:end], np.uint8)


def _digits(numbers: NDArray[np.int64], count: int) -> NDArray[np.uint8]:
    """[numbers, count] decimal digits, as values."""
    return (numbers[:, None] // 10 ** np.arange(count - 1, -1, -1) % 10).astype(np.uint8)


def made_up_labels(*, shards: int, samples: int, seed: int) -> pa.Table:
    """Rows of every sample of so many tars: up to six synsets each, frequent ones and rare ones as Zipf has them."""
    rng = np.random.default_rng(seed)
    rows = shards * samples
    synsets = np.sort(rng.choice(wordnet.load().synsets, CLASSES, replace=False))
    weights = 1 / rng.permutation(np.arange(1, CLASSES + 1))
    drawn = np.sort(rng.choice(CLASSES, (rows, MOST_SYNSETS), p=weights / weights.sum()), axis=1)
    kept = np.arange(MOST_SYNSETS) < rng.integers(0, MOST_SYNSETS + 1, rows)[:, None]
    kept[:, 1:] &= drawn[:, 1:] != drawn[:, :-1]
    ends = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
    names = [f"{shard:05d}" for shard in range(shards)]
    keys = [f"{name}{number:04d}" for name in names for number in range(samples)]
    return pa.table(
        [
            pa.array([name for name in names for _ in range(samples)], pa.string()),
            pa.array(keys, pa.string()),
            pa.ListArray.from_arrays(pa.array(ends), pa.array(synsets[drawn[kept]], pa.int32())),
        ],
        schema=SCHEMA,
    )
