"""The labelers by name: our own, and those kept for comparison.

Names and options are what travels to workers; each process loads its own labeler, once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, get_args

import pyarrow as pa

from vocab.empty_reasons import Labelled
from vocab.errors import InputError
from vocab.user_lexicon import UserLexicon

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

    def label_and_say_why(self, captions: pa.StringArray) -> Labelled:
        """The same labels, and why a caption has none."""


def load_labeler(
    name: LabelerName = "catlip",
    *,
    spacy_model: str = SPACY_MODEL,
    wordnet: Path | None = None,
    punkt: Literal["installed", "untrained"] = "installed",
    lexicon: UserLexicon | None = None,
) -> CaptionLabeler:
    """The labeler of that name, loaded once per process.

    `spacy_model`: for spacy, the pipeline's package or folder. `wordnet` and `punkt`: for reference, see
    `vocab.reference.load`. `lexicon`: for catlip and spacy, the user's own words.

    Raises MissingRequirementError, with the command that installs it, for a package or data that is not there, and
    InputError for another name, for a model or folder that cannot be used, and for a lexicon that the labeler cannot
    read.
    """
    # Imported where they are chosen: each needs packages of its own, and our own labeler none of them.
    match name:
        case "catlip":
            from vocab import labeler

            return labeler.load() if lexicon is None else labeler.load_with(lexicon)
        case "spacy":
            from vocab import spacy_labeler

            return spacy_labeler.load(spacy_model, lexicon)
        case "reference":
            from vocab import reference

            refuse_lexicon(name, given=lexicon is not None)

            return reference.load(wordnet=wordnet, punkt=punkt)
    # The type says that there is no other; a string from outside may be any.
    raise InputError(
        "labeler",
        found=repr(name),
        wanted=" or ".join(get_args(LabelerName)),
        remedy="Leave it out for catlip, our own.",
    )


def refuse_lexicon(name: LabelerName, *, given: bool) -> None:
    """Raise InputError for a lexicon that is given to the released rule, which has no place for it."""
    if given and name == "reference":
        raise InputError(
            "--lexicon",
            found="given for labeler reference, which keeps to the rule of the released code",
            wanted="labeler catlip or spacy",
            remedy="Leave it out, or choose --labeler catlip.",
        )
