"""Accuracy that the feed's pixels cost: the same model trained on its crops and on PIL's, from the same seeds.

    python benchmarks/feed_accuracy.py [--steps 400] [--classes 20] [--image-size 64] [--seeds 0 1 2] [--data DIR]

In: images/tiny_imagenet of the folder with real data (CATLIP_DATA); its classes become label shards. Out: the accuracy
of each run on held-out pictures; last, one JSON object.

A small vision transformer is trained twice for each seed. Weights, order, labels, boxes and flips are the same; only
the pixels differ: once they are the feed's, once PIL's, which decodes all of a picture and resizes the box with its
bilinear filter. Held-out pictures are the same bytes for both, by PIL.

The pictures are of 64 pixels. At an image size of 64 every crop is enlarged; with `--image-size 32` most are made
smaller, and a feed that decodes at a lower resolution does so.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # as a script or with -m: the project's modules are found
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import io
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import timm
import torch
import tyro
from jaxtyping import Bool, Int64, UInt8
from PIL import Image
from torch import Tensor, nn

from benchmarks.feeding.corpus import Corpus, read_samples, write_labels, write_tar
from benchmarks.feeding.ours import our_choice, our_feed, our_source
from benchmarks.feeding.peers import plain_crop
from benchmarks.measuring.setting import DATA, machine, say
from trainer.model.objective import prepare
from vocab import wordnet
from vocab.errors import InputError, run_cli
from vocab.store.label_shards import SCHEMA
from vocab.vocabulary import Vocabulary

Pixels = Literal["fed", "plain"]
PEAK_LR = 1e-3
WEIGHT_DECAY = 0.05
AT_ONCE = 256


@dataclass(frozen=True)
class FeedAccuracy:
    """Train on the feed's crops and on PIL's, and compare."""

    data: Path = DATA
    """folder with images/tiny_imagenet"""
    classes: int = 20
    """classes, evenly spread over the 200"""
    steps: int = 400
    """optimisation steps of each run"""
    batch_size: int = 64
    """images per step"""
    image_size: int = 64
    """pixels of a crop's side; a multiple of 8"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of the weights and of the feed"""


@dataclass(frozen=True)
class HeldOut:
    """Pictures that are not trained on."""

    images: UInt8[Tensor, "images size size 3"]
    classes: Int64[Tensor, " images"]


def measure(options: FeedAccuracy) -> dict[str, Any]:
    """Train every pair; prints as it goes, returns the JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, contents = write_corpus(Path(folder), options)
        held_out = read_held_out(corpus, options)
        count = sum(map(len, contents))
        say(f"{options.classes} classes, {count:,} pictures to train on, {len(held_out.images):,} held out")
        accuracies: dict[Pixels, list[float]] = {"fed": [], "plain": []}
        for seed in options.seeds:
            for pixels, found in accuracies.items():
                start = time.perf_counter()
                found.append(train(corpus, contents, held_out, options, pixels=pixels, seed=seed))
                say(f"  seed {seed}, {pixels:<5} {found[-1]:.4f}   {time.perf_counter() - start:.0f} s")
    fed, plain = (statistics.mean(accuracies[pixels]) for pixels in ("fed", "plain"))
    return {
        "accuracy_fed": round(fed, 4),
        "accuracy_plain": round(plain, 4),
        "difference": round(fed - plain, 4),
        "differences": [round(one - other, 4) for one, other in zip(*accuracies.values(), strict=True)],
        "spread_of_seeds": round(statistics.pstdev(accuracies["plain"]), 4),
        "chance": round(1 / options.classes, 4),
        "classes": options.classes,
        "steps": options.steps,
        "image_size": options.image_size,
        "pictures": count,
        "held_out": len(held_out.images),
        "machine": f"{machine()}, torch {torch.__version__}",
    }


def write_corpus(folder: Path, options: FeedAccuracy) -> tuple[Corpus, list[list[bytes]]]:
    """Tars, labels and vocabulary of the chosen classes, and beside them each tar's pictures by index."""
    wnids = chosen_wnids(options)
    rows: list[tuple[str, str, list[int]]] = []
    contents: list[list[bytes]] = []
    for number, tar in enumerate(sorted((options.data / "images" / "tiny_imagenet").glob("train-*.tar"))):
        shard, members = f"{number:05d}", dict[str, bytes]()
        for key, wnid, picture in labelled(tar, wnids):
            members[f"{key}.jpg"] = picture
            rows.append((shard, key, [wordnet.synset_of_wnid(wnid)]))
        write_tar(folder / "images" / f"{shard}.tar", members)
        contents.append(list(members.values()))
    write_labels(folder, pa.table([list(column) for column in zip(*rows, strict=True)], schema=SCHEMA))
    return Corpus(folder, options.image_size, options.batch_size), contents


def chosen_wnids(options: FeedAccuracy) -> set[str]:
    """So many of the data's classes. Raises InputError where the data is absent or has fewer."""
    file = options.data / "images" / "tiny_imagenet" / "wnids.txt"
    wnids = sorted(file.read_text().split()) if file.is_file() else []
    if len(wnids) < options.classes:
        raise InputError(
            file,
            found=f"{len(wnids)} classes",
            wanted=f"{options.classes}",
            remedy="Point --data or CATLIP_DATA at the folder with real data, or ask for fewer --classes.",
        )
    return {wnids[place] for place in np.linspace(0, len(wnids) - 1, options.classes).astype(int).tolist()}


def labelled(tar: Path, wnids: set[str]) -> Iterator[tuple[str, str, bytes]]:
    """Key, wnid and picture of the tar's samples of the chosen classes."""
    for key, members in read_samples(tar).items():
        wnid = json.loads(members["json"])["wnid"]
        if wnid in wnids:
            yield key, wnid, members["jpg"]


def read_held_out(corpus: Corpus, options: FeedAccuracy) -> HeldOut:
    """The validation pictures of the chosen classes, whole, at the image size."""
    vocabulary = Vocabulary.load(corpus.vocabulary)
    images, synsets = [], []
    for tar in sorted((options.data / "images" / "tiny_imagenet").glob("val-*.tar")):
        for _, wnid, picture in labelled(tar, chosen_wnids(options)):
            with Image.open(io.BytesIO(picture)) as image:
                sized = image.convert("RGB").resize((corpus.image_size,) * 2, Image.Resampling.BILINEAR)
            images.append(np.asarray(sized))
            synsets.append(wordnet.synset_of_wnid(wnid))
    classes = vocabulary.classes_of(np.array(synsets, np.int32))
    return HeldOut(torch.from_numpy(np.stack(images)), torch.from_numpy(classes.astype(np.int64)))


def train(
    corpus: Corpus,
    contents: Sequence[Sequence[bytes]],
    held_out: HeldOut,
    options: FeedAccuracy,
    *,
    pixels: Pixels,
    seed: int,
) -> float:
    """Train one model from the seed; its share of right answers on the held-out pictures."""
    torch.manual_seed(seed)
    model = timm.models.VisionTransformer(
        img_size=options.image_size,
        patch_size=options.image_size // 8,
        embed_dim=96,
        depth=3,
        num_heads=3,
        num_classes=options.classes,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, options.steps))
    batches = batches_of(corpus, contents, pixels=pixels, seed=seed)
    for _ in range(options.steps):
        images, flips, classes = next(batches)
        loss = nn.functional.cross_entropy(model(prepare(images, flips)), classes)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.inference_mode():
        right = [
            model(prepare(held_out.images[start : start + AT_ONCE], None)).argmax(1)
            == held_out.classes[start : start + AT_ONCE]
            for start in range(0, len(held_out.images), AT_ONCE)
        ]
    return float(torch.cat(right).float().mean())


def rate_at(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up over a twentieth of the steps, then half a cosine."""
    warm_up = max(1, steps // 20)
    return min((step + 1) / warm_up, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def batches_of(
    corpus: Corpus, contents: Sequence[Sequence[bytes]], *, pixels: Pixels, seed: int
) -> Iterator[tuple[UInt8[Tensor, "batch size size 3"], Bool[Tensor, " batch"], Int64[Tensor, " batch"]]]:
    """The feed's batches, with its own pixels or with PIL's of the same boxes; one class an image."""
    source = our_source(corpus, seed=seed)
    total, seen = sum(map(len, contents)), 0
    for fed in our_feed(source, corpus, workers=0):
        images = fed.images
        if pixels == "plain":
            crops = []
            for place, (tar, index) in enumerate(fed.samples, seen):
                # One stream, no bad sample: an epoch is so many samples long.
                choose = our_choice(source, epoch=place // total, tar=tar, index=index)
                crops.append(plain_crop(contents[tar][index], choose, size=corpus.image_size))
            images = torch.from_numpy(np.stack(crops))
        seen += len(images)
        yield images, fed.flips, fed.classes


def main() -> None:
    """Measure and print."""
    result = measure(tyro.cli(FeedAccuracy))
    say(json.dumps(result))


if __name__ == "__main__":
    run_cli(main)
