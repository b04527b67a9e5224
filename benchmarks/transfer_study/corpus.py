"""Pictures for the transfer benchmark: captioned tars to pre-train on, and tars with classes to transfer to.

In: images/tiny_imagenet of the folder with real data. Out: a folder, and a `Corpus` that says what lies where.

    FOLDER/captioned/00000.tar ...    000000000.jpg 000000000.txt ...    seen classes, training pictures, shuffled
    FOLDER/captioned_test/00000.tar   the same of the test pictures, to evaluate the pre-training on
    FOLDER/seen/train.tar test.tar classes.txt       000000000.jpg 000000000.cls ...    classes.txt: a wnid a line
    FOLDER/unseen/train.tar test.tar classes.txt     classes that no caption and no picture of the pre-training is of

The tars of a task have the pictures that the captioned ones have, and nothing in common with them but that: a captioned
sample has no class, and its key is a number in a shuffled order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.clip_race.captions import captions_of
from benchmarks.clip_race.corpus import FOLDER
from benchmarks.feeding.corpus import read_samples, write_tar
from vocab import wordnet
from vocab.errors import InputError, MismatchError
from vocab.store.label_shards import LabelShards

# Decides which classes are held out, and nothing else: all runs have the same.
HELD_OUT_SEED = 7
HELD_OUT = 60
PARTS = ("train", "test")
# As the data's own tars are called.
SOURCES = {"train": "train", "test": "val"}
CAPTIONED = {"train": "captioned", "test": "captioned_test"}
TARS = {"train": 8, "test": 1}
CLASSES = "classes.txt"


@dataclass(frozen=True)
class Picture:
    """A picture and what it shows."""

    content: bytes
    wnid: str


@dataclass(frozen=True)
class TaskTars:
    """A classification task: tars with .cls, and the names of the classes by number."""

    name: str
    folder: Path
    wnids: tuple[str, ...]

    @property
    def train(self) -> Path:
        """Training tar."""
        return self.folder / "train.tar"

    @property
    def test(self) -> Path:
        """Test tar."""
        return self.folder / "test.tar"

    @property
    def class_names(self) -> Path:
        """A wnid a line, in the order of the class numbers."""
        return self.folder / CLASSES


@dataclass(frozen=True)
class Corpus:
    """Tars to pre-train on, and tars to transfer to."""

    folder: Path
    seen: TaskTars
    unseen: TaskTars
    captions: Mapping[tuple[str, int], str]
    """caption of each picture to pre-train on, by the stem of its tar and its index in the tar"""

    @property
    def tars(self) -> list[Path]:
        """Captioned tars to train on."""
        return sorted((self.folder / CAPTIONED["train"]).glob("*.tar"))

    @property
    def test_tars(self) -> list[Path]:
        """Captioned tars to evaluate on."""
        return sorted((self.folder / CAPTIONED["test"]).glob("*.tar"))


def split_classes(wnids: Sequence[str], *, seen: int, unseen: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classes to pre-train on and classes to hold out, each ascending: the first ones of one fixed shuffle.

    Of all 200 the first HELD_OUT are held out, whatever is asked for: fewer classes are some of the same two sets.
    """
    shuffled = np.random.default_rng(HELD_OUT_SEED).permutation(sorted(wnids)).tolist()
    held_out, kept = shuffled[:HELD_OUT], shuffled[HELD_OUT:]
    if not (2 <= seen <= len(kept) and 2 <= unseen <= len(held_out)):
        raise InputError(
            "classes",
            found=f"{seen} to pre-train on, {unseen} to hold out",
            wanted=f"2 to {len(kept)}, and 2 to {len(held_out)}, of {len(shuffled)}",
            remedy="Ask for fewer.",
        )
    return tuple(sorted(kept[:seen])), tuple(sorted(held_out[:unseen]))


def read_pictures(data: Path, part: str, *, wnids: Sequence[str]) -> list[Picture]:
    """The pictures of some classes, in the data's order. Raises InputError where there are none."""
    wanted = set(wnids)
    tars = sorted((data / FOLDER).glob(f"{SOURCES[part]}-*.tar"))
    samples = [sample for tar in tars for sample in read_samples(tar).values()]
    pictures = [Picture(sample["jpg"], json.loads(sample["json"])["wnid"]) for sample in samples]
    found = [picture for picture in pictures if picture.wnid in wanted]
    if not found:
        raise InputError(
            data / FOLDER,
            found=f"no pictures of {len(wanted)} classes in {len(tars)} tars {SOURCES[part]}-*.tar",
            wanted="Tiny ImageNet's pictures",
            remedy="Point --data or CATLIP_DATA at the folder with real data.",
        )
    return found


def write_corpus(data: Path, folder: Path, *, seen: int, unseen: int, seed: int) -> Corpus:
    """Write everything to a new folder. `seed`: of the captions and of the order of the captioned pictures."""
    wnids = (data / FOLDER / "wnids.txt").read_text().split()
    kept, held_out = split_classes(wnids, seen=seen, unseen=unseen)
    for name, names in (("seen", kept), ("unseen", held_out)):
        (folder / name).mkdir(parents=True)
        (folder / name / CLASSES).write_text("".join(f"{wnid}\n" for wnid in names))
        for part in PARTS:
            pictures = read_pictures(data, part, wnids=names)
            write_tar(folder / name / f"{part}.tar", with_classes(pictures, names))
            if name == "seen":
                # Neither captions nor order are the same for the two parts.
                write_captioned(folder / CAPTIONED[part], pictures, tars=TARS[part], seed=2 * seed + PARTS.index(part))
    return open_corpus(folder)


def open_corpus(folder: Path) -> Corpus:
    """Open the corpus that `write_corpus` wrote."""
    seen, unseen = (
        TaskTars(name, folder / name, tuple((folder / name / CLASSES).read_text().split()))
        for name in ("seen", "unseen")
    )
    captions = {
        (tar.stem, place): sample["txt"].decode()
        for tar in sorted((folder / CAPTIONED["train"]).glob("*.tar"))
        for place, sample in enumerate(read_samples(tar).values())
    }
    return Corpus(folder, seen, unseen, captions)


def with_classes(pictures: Sequence[Picture], wnids: Sequence[str]) -> dict[str, bytes]:
    """Members of a task's tar: pictures with the numbers of their classes."""
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    members: dict[str, bytes] = {}
    for key, picture in enumerate(pictures):
        members |= {f"{key:09d}.jpg": picture.content, f"{key:09d}.cls": f"{numbers[picture.wnid]}".encode()}
    return members


def write_captioned(folder: Path, pictures: Sequence[Picture], *, tars: int, seed: int) -> None:
    """Pictures with captions, shuffled, in so many tars."""
    captions = captions_of([wordnet.synset_of_wnid(picture.wnid) for picture in pictures], seed=seed)
    order = np.random.default_rng(seed).permutation(len(pictures))
    for number, share in enumerate(np.array_split(order, tars)):
        members: dict[str, bytes] = {}
        for place, picture in enumerate(share.tolist()):
            key = f"{number:05d}{place:04d}"
            members |= {f"{key}.jpg": pictures[picture].content, f"{key}.txt": captions[picture].encode()}
        write_tar(folder / f"{number:05d}.tar", members)


def require_unseen(labels: LabelShards, task: TaskTars) -> None:
    """Raise MismatchError if a caption of the pre-training says a class that is held out of it."""
    counts = labels.counts()
    said = dict(zip(counts["synset"].to_pylist(), counts["captions"].to_pylist(), strict=True))
    leaked = [wnid for wnid in task.wnids if wordnet.synset_of_wnid(wnid) in said]
    if leaked:
        raise MismatchError(
            labels.location,
            found=f"{len(leaked)} held-out classes in captions: "
            + ", ".join(f"{wnid} in {said[wordnet.synset_of_wnid(wnid)]}" for wnid in leaked[:5]),
            wanted="captions that say none of them",
            remedy="Hold out other classes (HELD_OUT_SEED), or take the words out of the captions.",
        )
