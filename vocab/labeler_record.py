"""The labeler that made some labels, as files name it: enough to load it again, wherever the labels went.

A label directory tells it in its manifest and `lexicon.parquet`; a vocabulary carries it to runs and exported models,
so that the names of a task's classes are read as the captions were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from vocab.errors import MismatchError
from vocab.labelers import SPACY_MODEL, CaptionLabeler, LabelerName, load_labeler
from vocab.pages.text import tell
from vocab.store.label_shards import LabelShards
from vocab.user_lexicon import UserLexicon, lexicon_of


@dataclass(frozen=True)
class LabelerRecord:
    """Name, fingerprint and options of a labeler."""

    name: str
    fingerprint: str
    spacy_model: str = SPACY_MODEL
    wordnet: str | None = None
    """folder of WordNet's files on the machine of the job"""
    lexicon: UserLexicon | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as JSON holds it."""
        options = {"spacy_model": self.spacy_model} if self.name == "spacy" else {}
        lexicon = {} if self.lexicon is None else {"lexicon": self.lexicon.text}
        return {"name": self.name, "fingerprint": self.fingerprint, **options, **lexicon}

    @classmethod
    def from_json(cls, content: object) -> LabelerRecord:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError for anything else."""
        if not isinstance(content, Mapping):
            raise TypeError(f"a labeler that is {content!r:.80}")
        lexicon = content.get("lexicon")
        return cls(
            str(content["name"]),
            str(content["fingerprint"]),
            str(content.get("spacy_model", SPACY_MODEL)),
            lexicon=None if lexicon is None else UserLexicon(str(lexicon)),
        )

    def load(self, *, thing: str, otherwise: str) -> CaptionLabeler:
        """Load the labeler.

        `thing` and `otherwise` are for messages: for what it is wanted, and what to do without it. Raises MismatchError
        if this release has no labeler of that name, or one with other tables or rules, and what `load_labeler` raises.
        """
        labeler = self._load(thing, otherwise)
        if labeler.fingerprint != self.fingerprint:
            name, ours, theirs = labeler.name, labeler.fingerprint[:12], self.fingerprint[:12]
            raise _other_labeler(
                thing, f"{name} {theirs}", f"{name} {ours}, which is installed here", otherwise=otherwise
            )
        return labeler

    def load_for_names(self) -> CaptionLabeler:
        """The labeler for names of classes: this release's where its tables have changed since, and our own where the
        labels are another program's; either is said."""
        if self.name not in get_args(LabelerName):
            tell(f"class names are read with our own labeler: the labels were made by another, {self.name!r:.80}\n")
            return load_labeler(lexicon=self.lexicon)
        labeler = self._load("class names", "make the labels again with this release")
        if labeler.fingerprint != self.fingerprint:
            tell(
                f"class names are read with the tables {labeler.fingerprint[:12]} of the labeler {labeler.name}; the "
                f"labels were made with {self.fingerprint[:12]}, those of another release\n"
            )
        return labeler

    def _load(self, thing: str, otherwise: str) -> CaptionLabeler:
        if self.name not in get_args(LabelerName):
            raise _other_labeler(thing, repr(self.name), " or ".join(get_args(LabelerName)), otherwise=otherwise)
        folder = None if self.wordnet is None else Path(self.wordnet)
        return load_labeler(
            cast(LabelerName, self.name), spacy_model=self.spacy_model, wordnet=folder, lexicon=self.lexicon
        )


def record_of(labels: LabelShards) -> LabelerRecord:
    """The labeler that made a label directory; of aligned labels, that of the captions' labels."""
    manifest = labels.manifest
    config = manifest.config
    if config.get("verb") == "align":
        config = config.get("source", {}).get("config", {})
    wordnet = config.get("wordnet")
    return LabelerRecord(
        manifest.labeler,
        manifest.labeler_fingerprint,
        str(config.get("spacy_model") or SPACY_MODEL),
        None if wordnet is None else str(wordnet),
        lexicon_of(labels),
    )


def _other_labeler(thing: str, found: str, wanted: str, *, otherwise: str) -> MismatchError:
    return MismatchError(
        thing,
        found=f"labels by {found}",
        wanted=f"labels by {wanted}",
        remedy=f"Install the release that made them, or {otherwise}.",
    )
