"""Captions beside the synsets they were labelled with.

In: a label directory's manifest, its input files, and the synsets to show. Out: `Examples`. A label directory holds no
captions; so a sample of them is read again (`caption_sample`) and labelled again by the same labeler, which gives the
same labels.
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
    """Some captions of a corpus and their labels."""

    sample: CaptionSample
    lists: pa.ListArray
    """[texts] synsets of each text: list<int32>"""


@dataclass(frozen=True)
class Examples:
    """Captions that hold a synset."""

    captions: dict[int, list[str]]
    """synset -> captions; a synset that no caption of the sample holds is left out"""
    sample: CaptionSample


def label_again(manifest: Manifest, places: tuple[str, ...], *, apart_from: str | None = None) -> LabelledSample:
    """Label a bounded sample of the input files' captions as the labels' own job did.

    Raises MismatchError if this installation would label captions otherwise, or for files that are not the labels'
    own, and what `load_labeler` and `sample_captions` raise.
    """
    labeler = labeler_of(manifest)
    sample = sample_captions(manifest, places, apart_from=apart_from)
    return LabelledSample(sample, labeler.label(pa.array(sample.texts, pa.string())))


def examples_of(labelled: LabelledSample, synsets: NDArray[np.int32], *, count: int) -> Examples:
    """Up to `count` captions for each of `synsets` out of the sample."""
    texts = labelled.sample.texts
    chosen = choose(labelled.lists, synsets, count=count)
    return Examples({synset: [texts[text] for text in places] for synset, places in chosen.items()}, labelled.sample)


def labeler_of(manifest: Manifest) -> CaptionLabeler:
    """The labeler that made the labels.

    Raises MismatchError if there is none of its name here, or if the one that is has other tables or rules.
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
    """For each synset the places of up to `count` lists that hold it, spread evenly from the first to the last.

    A synset that no list holds is left out.
    """
    values = lists.flatten().to_numpy()
    wanted = np.isin(values, synsets)
    values, places = values[wanted], pc.list_parent_indices(lists).to_numpy()[wanted]
    order = np.argsort(values, kind="stable")
    found, starts, sizes = np.unique(values[order], return_index=True, return_counts=True)
    chosen: dict[int, list[int]] = {}
    for synset, start, size in zip(found.tolist(), starts.tolist(), sizes.tolist(), strict=True):
        spread = np.unique(np.linspace(0, size - 1, min(count, size)).round().astype(int))
        chosen[synset] = places[order[start + spread]].tolist()
    return chosen


def _other_labeler(found: str, wanted: str) -> MismatchError:
    return MismatchError(
        "captions beside these labels",
        found=f"labels by {found}",
        wanted=f"labels by {wanted}",
        remedy="Install the release that made them, or leave --captions out.",
    )
