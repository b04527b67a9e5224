"""Make the tables in vocab/data; none of this is needed to use them.

python -m vocab build          WordNet's database files -> the packed nouns
python -m vocab fit-tagger     a treebank, SemCor -> the tagger's tables
python -m vocab fit-senses     SemCor and a list of synsets that pictures show -> the tables of senses
python -m vocab mark-depictable    rules written by hand -> the mark of synsets that a picture can show

In this order: each reads what the one before it wrote, the last only the packed nouns.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from vocab import depictable, senses, tagger, wordnet
from vocab.command_line import Verb, read_options
from vocab.errors import InputError, run_cli
from vocab.pages.text import tell
from vocab.store.files import write_whole
from vocab.store.locations import make_folder_of, refuse_unwritable

DATA = Path(__file__).parent / "data"
WORDNET = Path("/usr/share/wordnet")
SEMCOR_LICENCE = "SemCor 3.0 and WordNet 3.0, Princeton University"
CAPTIONS_LICENCE = "captions tagged for this project"
NAMES_LICENCE = "lists of names, LICENSE.tables.md"
NOUNS_FILE, TAGGER_FILE, SENSES_FILE, MARKS_FILE = (
    DATA / kind.file for kind in (wordnet.PACKED, tagger.PACKED, senses.PACKED, depictable.PACKED)
)


@dataclass(frozen=True)
class Build:
    """Make the packed file of WordNet's nouns from WordNet's own database files."""

    wordnet: Path = WORDNET
    """folder with data.noun, index.noun, index.sense and the .exc files
    (Debian: wordnet-base, wordnet-sense-index)"""
    out: Path = NOUNS_FILE
    """file to write"""

    def packed(self) -> bytes:
        """Parse and pack."""
        from vocab.fit.wordnet_files import read_wordnet

        return wordnet.pack(read_wordnet(self.wordnet))


@dataclass(frozen=True)
class FitTagger:
    """Fit the tagger's tables on a treebank; needs SciPy, six minutes and 5 GB of memory."""

    treebank: Path
    """CoNLL-U file, plain or gzip: en_ewt-ud-train.conllu of Universal Dependencies' English Web Treebank"""
    semcor: Path | None = None
    """SemCor's sentences as JSON lines, plain or gzip (vocab/fit/semcor.py); the package's tables have them"""
    captions: Path | None = None
    """captions as JSON lines, tagged ones and plain text (vocab/fit/captions.py); the package's tables have them"""
    names: Path | None = None
    """folder with lists of given names, surnames, places and brands (vocab/fit/names.py); the package's tables have
    them"""
    licence: str = "Universal Dependencies English Web Treebank, CC BY-SA 4.0"
    """name and licence of the treebank, kept in the file"""
    wordnet: Path = WORDNET
    """folder with WordNet's database files"""
    out: Path = TAGGER_FILE
    """file to write"""

    def packed(self) -> bytes:
        """Fit and pack."""
        from vocab.fit.tagger_fit import fit

        parts = ((self.semcor, SEMCOR_LICENCE), (self.captions, CAPTIONS_LICENCE), (self.names, NAMES_LICENCE))
        trained_on = "; ".join([self.licence, *(licence for path, licence in parts if path is not None)])
        tables = fit(self.treebank, self.wordnet, self.semcor, self.captions, self.names)
        return tagger.pack(tables, {"trained_on": trained_on})


@dataclass(frozen=True)
class FitSenses:
    """Fit the tables of senses; needs SciPy and half a minute."""

    semcor: Path
    """SemCor's sentences as JSON lines, plain or gzip (vocab/fit/semcor.py)"""
    listed: Path
    """wnids of synsets that pictures are known to show, one a line: ImageNet-22k's"""
    names: Path | None = None
    """folder with lists of names (vocab/fit/names.py); the package's tables have them"""
    licence: str = "SemCor 3.0 and WordNet 3.0, Princeton University; ImageNet-22k's list of synsets"
    """names and licences of both, kept in the file"""
    wordnet: Path = WORDNET
    """folder with WordNet's database files"""
    out: Path = SENSES_FILE
    """file to write"""

    def packed(self) -> bytes:
        """Fit and pack."""
        from vocab.fit.senses_fit import fit

        tables = fit(self.wordnet, self.semcor, self.listed, self.names, wordnet.load(), tagger.load())
        trained_on = self.licence if self.names is None else f"{self.licence}; {NAMES_LICENCE}"
        return senses.pack(tables, {"trained_on": trained_on})


@dataclass(frozen=True)
class MarkDepictable:
    """Compile the rules for what a picture can show, vocab/fit/depictable.txt, to a mark for each synset."""

    out: Path = MARKS_FILE
    """file to write"""

    def packed(self) -> bytes:
        """Read the rules, compile and pack."""
        from vocab.fit.depictable import RULES_FILE, marks_of

        return depictable.pack(marks_of(RULES_FILE.read_text(encoding="utf-8"), wordnet.load()))


def main() -> None:
    """Command line of the room."""
    verbs = {
        "build": Verb(Build),
        "fit-tagger": Verb(FitTagger),
        "fit-senses": Verb(FitSenses),
        "mark-depictable": Verb(MarkDepictable),
    }
    about = "Make the tables in vocab/data, verb after verb; nothing of this is needed to use them."
    options = read_options("python -m vocab", verbs, sys.argv[1:], about=about)
    out = options.out
    if out.is_dir():
        raise InputError(f"--out {out}", found="a folder", wanted="a file to write", remedy="Name a file in it.")
    refuse_unwritable(out)
    content = options.packed()
    make_folder_of(out)
    with write_whole(out) as file:
        file.write(content)
    tell(f"{out}: {len(content):,} bytes\n", to=sys.stdout)


if __name__ == "__main__":
    run_cli(main)
