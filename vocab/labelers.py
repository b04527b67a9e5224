"""The labelers by name: our own, and those kept for comparison.

Names and options are what travels to workers; each process loads its own labeler, once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, get_args

import pyarrow as pa

from vocab.errors import InputError

LabelerName = Literal["catlip", "spacy", "reference"]
"""catlip: our own. spacy: a spaCy pipeline says which words are nouns, the rest is ours. reference: the rule of
CatLIP's released code, on NLTK"""

SPACY_MODEL = "en_core_web_sm"


class CaptionLabeler(Protocol):
    """Caption -> noun synsets."""

    @property
    def name(self) -> str:
        """Name of the labeler, one of `LabelerName`."""

    @property
    def fingerprint(self) -> str:
        """sha256 of all that labels depend on; equal fingerprints give equal labels."""

    def label(self, captions: pa.StringArray) -> pa.ListArray:
        """Labels of each caption: list<int32> [len(captions)], WordNet 3.0 offsets, unique and ascending."""


def load_labeler(
    name: LabelerName = "catlip",
    *,
    spacy_model: str = SPACY_MODEL,
    wordnet: Path | None = None,
    punkt: Literal["installed", "untrained"] = "installed",
) -> CaptionLabeler:
    """The labeler of that name, loaded once per process.

    `spacy_model`: for spacy, the pipeline's package or folder. `wordnet` and `punkt`: for reference, see
    `vocab.reference.load`.

    Raises MissingRequirementError, with the command that installs it, for a package or data that is not there, and
    InputError for another name, and for a model or folder that cannot be used.
    """
    # Imported where they are chosen: each needs packages of its own, and our own labeler none of them.
    match name:
        case "catlip":
            from vocab import labeler

            return labeler.load()
        case "spacy":
            from vocab import spacy_labeler

            return spacy_labeler.load(spacy_model)
        case "reference":
            from vocab import reference

            return reference.load(wordnet=wordnet, punkt=punkt)
    # The type says that there is no other; a string from outside may be any.
    raise InputError(
        "labeler",
        found=repr(name),
        wanted=" or ".join(get_args(LabelerName)),
        remedy="Leave it out for catlip, our own.",
    )
