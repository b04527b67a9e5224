"""Example captions for synsets.

A label directory holds no captions, so a sample of them is read again (`caption_sample`) and labelled by the same
labeler, which gives the same labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.caption_sample import CaptionSample, sample_captions
from vocab.errors import MismatchError
from vocab.labelers import SPACY_MODEL, CaptionLabeler, LabelerName, load_labeler
from vocab.store.manifest import Manifest


@dataclass(frozen=True, eq=False)
class LabelledSample:
    """Sample of a corpus's captions with their labels."""

    sample: CaptionSample
    lists: pa.ListArray
    """[texts] synsets of each text: list<int32>"""


@dataclass(frozen=True)
class Examples:
    """Captions by the synset that they hold."""

    captions: dict[int, list[str]]
    """synset -> captions; a synset that no caption of the sample holds is left out"""
    sample: CaptionSample


def label_again(manifest: Manifest, locations: tuple[str, ...], *, apart_from: str | None = None) -> LabelledSample:
    """Label a bounded sample of the input files' captions as the job did that made the labels.

    Raises MismatchError if this installation would label captions differently, or if the labels were made from other
    files, and what `load_labeler` and `sample_captions` raise.
    """
    labeler = labeler_of(manifest)
    sample = sample_captions(manifest, locations, apart_from=apart_from)
    return LabelledSample(sample, labeler.label(pa.array(sample.texts, pa.string())))


def examples_of(labelled: LabelledSample, synsets: NDArray[np.int32], *, count: int) -> Examples:
    """Take up to `count` captions of the sample for each synset."""
    texts = labelled.sample.texts
    chosen = choose(labelled.lists, synsets, count=count)
    return Examples({synset: [texts[text] for text in found] for synset, found in chosen.items()}, labelled.sample)


def labeler_of(manifest: Manifest) -> CaptionLabeler:
    """Load the labeler that made the labels.

    Raises MismatchError if this release has no labeler of that name, or one with other tables or rules.
    """
    if manifest.labeler not in get_args(LabelerName):
        raise _other_labeler(repr(manifest.labeler), " or ".join(get_args(LabelerName)))
    folder = manifest.config.get("wordnet")
    labeler = load_labeler(
        cast(LabelerName, manifest.labeler),
        spacy_model=str(manifest.config.get("spacy_model") or SPACY_MODEL),
        wordnet=None if folder is None else Path(folder),
    )
    if labeler.fingerprint != manifest.labeler_fingerprint:
        name, ours, theirs = labeler.name, labeler.fingerprint[:12], manifest.labeler_fingerprint[:12]
        raise _other_labeler(f"{name} {theirs}", f"{name} {ours}, which is installed here")
    return labeler


def choose(lists: pa.ListArray, synsets: NDArray[np.int32], *, count: int) -> dict[int, list[int]]:
    """Choose up to `count` lists that hold a synset, spread evenly from the first to the last: synset -> list numbers.

    Synsets that no list holds are left out.
    """
    values = lists.flatten().to_numpy()
    wanted = np.isin(values, synsets)
    values, numbers = values[wanted], pc.list_parent_indices(lists).to_numpy()[wanted]
    order = np.argsort(values, kind="stable")
    found, starts, sizes = np.unique(values[order], return_index=True, return_counts=True)
    chosen: dict[int, list[int]] = {}
    for synset, start, size in zip(found.tolist(), starts.tolist(), sizes.tolist(), strict=True):
        spread = np.unique(np.linspace(0, size - 1, min(count, size)).round().astype(int))
        chosen[synset] = numbers[order[start + spread]].tolist()
    return chosen


def _other_labeler(found: str, wanted: str) -> MismatchError:
    return MismatchError(
        "captions beside these labels",
        found=f"labels by {found}",
        wanted=f"labels by {wanted}",
        remedy="Install the release that made them, or leave --captions out.",
    )
