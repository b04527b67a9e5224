"""Pictures in memory, with captions for CLIP and with the labels that this project mines from them for CatLIP.

In: images/tiny_imagenet of the folder with real data. Out: a `Corpus`. The classes of the pictures are used twice: to
write captions, and by the probe. What CatLIP learns from is what the labeler finds in the captions.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.clip_race.captions import captions_of
from benchmarks.feeding.corpus import read_samples
from vocab import labeler, wordnet
from vocab.errors import InputError
from vocab.vocabulary import Vocabulary

FOLDER = Path("images") / "tiny_imagenet"
# Captions that a class of the vocabulary stands in at least (V_tau).
MIN_COUNT = 20


@dataclass(frozen=True)
class Pictures:
    """Pictures and what they show."""

    images: UInt8[Tensor, "images size size 3"]
    synsets: NDArray[np.int32]
    """[images]"""


@dataclass(frozen=True)
class Labels:
    """Classes of each picture, sparse: classes[offsets[i] : offsets[i + 1]] are those of picture i."""

    vocabulary: Vocabulary
    offsets: Int64[Tensor, " images_plus_1"]
    classes: Int64[Tensor, " positives"]

    def of(
        self, pictures: Int64[Tensor, " batch"]
    ) -> tuple[Int64[Tensor, " batch_plus_1"], Int64[Tensor, " positives"]]:
        """Offsets and classes of some of the pictures, in their order."""
        starts, ends = self.offsets[pictures], self.offsets[pictures + 1]
        rows = [self.classes[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        return torch.cat([torch.zeros(1, dtype=torch.int64), (ends - starts).cumsum(0)]), torch.cat(rows)


@dataclass(frozen=True)
class Corpus:
    """Pictures with captions that both sides are trained on, and pictures that they are measured on."""

    train: Pictures
    held_out: Pictures
    captions: list[str]
    labels: Labels


def has_pictures(data: Path) -> bool:
    """Tell whether the folder holds the pictures that `read_corpus` reads."""
    return (data / FOLDER / "wnids.txt").is_file()


def read_corpus(data: Path, *, classes: int, image_size: int, seed: int) -> Corpus:
    """All pictures of so many classes, evenly spread over the 200, with new captions of this seed, and their labels."""
    wnids = sorted((data / FOLDER / "wnids.txt").read_text().split())
    chosen = {wnids[place] for place in np.linspace(0, len(wnids) - 1, classes).astype(int).tolist()}
    train, held_out = (
        read_pictures(sorted((data / FOLDER).glob(f"{part}-*.tar")), wnids=chosen, image_size=image_size)
        for part in ("train", "val")
    )
    captions = captions_of(train.synsets.tolist(), seed=seed)
    return Corpus(train, held_out, captions, labels_of(captions))


def read_pictures(tars: Sequence[Path], *, wnids: Collection[str], image_size: int) -> Pictures:
    """The pictures of some classes in tars, in order. Raises InputError if one is not of `image_size`."""
    images: list[NDArray[np.uint8]] = []
    synsets: list[int] = []
    for tar in tars:
        for key, sample in read_samples(tar).items():
            wnid = json.loads(sample["json"])["wnid"]
            if wnid not in wnids:
                continue
            with Image.open(io.BytesIO(sample["jpg"])) as image:
                pixels = np.asarray(image.convert("RGB"))
            if pixels.shape != (image_size, image_size, 3):
                raise InputError(
                    f"{tar}, {key}",
                    found=f"a picture of {pixels.shape[1]} x {pixels.shape[0]} pixels",
                    wanted=f"{image_size} x {image_size}",
                    remedy="Point --data or CATLIP_DATA at the folder with real data.",
                )
            images.append(pixels)
            synsets.append(wordnet.synset_of_wnid(wnid))
    return Pictures(torch.from_numpy(np.stack(images)), np.array(synsets, np.int32))


def labels_of(captions: Sequence[str], *, min_count: int = MIN_COUNT) -> Labels:
    """Label captions, with the synsets that stand in at least `min_count` of them as the vocabulary."""
    found = labeler.load().label(pa.array(captions, pa.string()))
    synsets, captions_with = np.unique(found.values.to_numpy(), return_counts=True)
    vocabulary = Vocabulary.from_counts(
        pa.table({"synset": pa.array(synsets, pa.int32()), "captions": pa.array(captions_with, pa.int64())}),
        rows=len(captions),
        min_count=min_count,
    )
    classes = vocabulary.classes_of(found.values.to_numpy())
    owners = np.repeat(np.arange(len(captions)), np.diff(found.offsets.to_numpy()))[classes >= 0]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(captions)))])
    return Labels(vocabulary, torch.from_numpy(offsets), torch.from_numpy(classes[classes >= 0].astype(np.int64)))


def tokens_of(captions: Sequence[str], *, length: int) -> tuple[Int64[Tensor, "captions tokens"], int]:
    """Captions by open_clip's tokenizer, and how many tokens there are.

    Tokens that no caption has are left out of the count and the others keep their order, the end of text last: a text
    tower need not carry embeddings that nothing trains.
    """
    from open_clip.tokenizer import SimpleTokenizer

    tokens: Tensor = SimpleTokenizer(context_length=length)(list(captions))
    used, numbered = torch.unique(tokens, return_inverse=True)
    return numbered, len(used)
