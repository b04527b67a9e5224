"""The label rule of CatLIP's released code, on NLTK: the reference for our own labeler.

    "Two Golden Retrievers asleep on a couch"  ->  [2099029, 13743269]     retriever.n.01, two.n.01

The rule is that of apple/corenet, `caption_preprocessing` (corenet/data/datasets/utils/text.py) and
`_convert_caption_to_labels` (corenet/data/datasets/classification/wordnet_tagged_classification.py). Done otherwise
here, which changes no text's labels:

- The part-of-speech tag is not computed. The released code computes it for every word and never looks at it.
- A word's synset is looked up once and remembered; there, once per occurrence.
- A repeated synset counts once; there it is set to 1 twice.
- Of more than 30 combining marks in a row the first 30 are kept: ftfy sorts them, which takes quadratic time. No word
  with so many has a synset.
- The cut to the 24,320 most frequent synsets is left to `vocab.vocabulary`.

A null caption has no labels; the released code reads it as "None", and labels it none.n.01, a canonical hour.

The released code pins NLTK 3.8.1. Later releases split a few captions and lemmatize a few words otherwise, so NLTK's
version is part of the fingerprint.
"""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vocab.empty_reasons import LABELLED, EmptyReason, Labelled
from vocab.errors import InputError, MissingRequirementError
from vocab.wordnet import LEXICOGRAPHER_FILES

# Part of the fingerprint: raised with every change of the rules below.
RULES_VERSION = 1

WORDNET_VERSION = "3.0"
DATA_REMEDY = "Run: python -m nltk.downloader wordnet punkt_tab"

# Distinct words whose synset is remembered: all that a caption is likely to hold, in a bounded amount of memory.
REMEMBERED_WORDS = 1 << 18

# NLTK opens all parts of speech, though labels come from the nouns alone.
DATABASE_FILES = tuple(
    name.format(part)
    for part in ("noun", "verb", "adj", "adv")
    for name in ("index.{}", "data.{}", "{}.exc")
)  # fmt: skip

# NLTK also wants a file "lexnames", with 45 lines `05<TAB>noun.animal<TAB>1`, which only its own copy of WordNet holds.
# No label depends on the names.
LEXNAMES = "".join(f"{i:02d}\tnoun.{LEXICOGRAPHER_FILES.get(i, 'none')}\t1\n" for i in range(45))

TAG_OR_OPEN = re.compile(r"<[^>\n]*>?")
SPACES = re.compile(" +")

MOST_MARKS = 30
"""most combining marks kept in a row: the limit of Unicode's Stream-Safe Text Format (UAX #15)"""


@dataclass(frozen=True, eq=False)
class ReferenceLabeler:
    """Caption -> noun synsets by the rule of CatLIP's released code."""

    split_words: Callable[[str], list[str]]
    """NLTK's `word_tokenize`"""
    synset_of: Callable[[str], int | None]
    """cached look-up of a word's synset"""
    fix_text: Callable[[str], str]
    """`ftfy.fix_text`"""
    tools: str
    """versions of everything that labels depend on: "nltk 3.9.1 ftfy 6.3.1 wordnet 3.0 punkt installed" """
    name: str = "reference"

    @property
    def fingerprint(self) -> str:
        """sha256 of the rules' version, NLTK's, ftfy's and WordNet's; equal fingerprints give equal labels."""
        return hashlib.sha256(f"{self.name} {RULES_VERSION} {self.tools}".encode()).hexdigest()

    def label(self, captions: pa.StringArray) -> pa.ListArray:
        """Labels of each caption: list<int32> [len(captions)], empty where there is none, also for a null caption.

        `captions` must be valid UTF-8; `pipeline.labeling` sorts out what is not.
        """
        with without_time_limit():
            lists = [[] if caption is None else self._synsets(caption) for caption in captions.to_pylist()]
        return pa.array(lists, pa.list_(pa.int32()))

    def label_and_say_why(self, captions: pa.StringArray) -> Labelled:
        """`label`, and why captions have no label: this rule knows neither languages nor names."""
        synsets = self.label(captions)
        empty = np.asarray(pc.list_value_length(synsets)) == 0
        return Labelled(synsets, np.where(empty, EmptyReason.NO_NOUN, LABELLED).astype(np.int8))

    def _synsets(self, caption: str) -> list[int]:
        """Unique ascending synsets of one caption."""
        words = self.split_words(clean_caption(caption, self.fix_text))
        return sorted({synset for word in words if (synset := self.synset_of(word)) is not None})


@cache
def load(*, wordnet: Path | None = None, punkt: Literal["installed", "untrained"] = "installed") -> ReferenceLabeler:
    """Build the labeler over NLTK, once per process.

    `wordnet`: a folder with WordNet 3.0's database files, such as Debian's /usr/share/wordnet; by default the corpus
    that NLTK's downloader installs. `punkt`: where sentences end, by NLTK's trained model, as the released code has it,
    or by Punkt without training, which needs no data but knows no abbreviations.

    Raises MissingRequirementError if NLTK, ftfy or NLTK's data is not installed, and InputError for a folder that
    lacks a file or is not WordNet 3.0.
    """
    try:
        import ftfy
        import nltk
        from nltk.tokenize import NLTKWordTokenizer
    except ModuleNotFoundError as error:
        raise MissingRequirementError(
            f"package {error.name}",
            found="not installed",
            wanted="nltk and ftfy, for the reference labeler",
            remedy="Run: pip install nltk ftfy",
        ) from error
    root = installed_wordnet() if wordnet is None else folder_of_wordnet(wordnet)
    sentences = trained_punkt() if punkt == "installed" else untrained_punkt()
    return ReferenceLabeler(
        split_words=partial(_split_words, sentences=sentences, words=NLTKWordTokenizer()),
        synset_of=lru_cache(REMEMBERED_WORDS)(partial(synset_of_word, wordnet=open_wordnet(root))),
        fix_text=ftfy.fix_text,
        tools=f"nltk {nltk.__version__} ftfy {ftfy.__version__} wordnet {WORDNET_VERSION} punkt {punkt}",
    )


def clean_caption(caption: str, fix_text: Callable[[str], str]) -> str:
    """`caption_preprocessing` of the released code: URL escapes, HTML tags and broken encodings are repaired.

    "%3Cb%3Ea+dog%3C/b%3E" -> "a dog". A tag ends on the line on which it begins; tabs and line breaks stay.
    """
    text = with_few_marks(without_tags(unquote(caption).replace("+", " ")))
    return fix_text(SPACES.sub(" ", text.strip("\n"))).strip().lower()


def without_tags(text: str) -> str:
    """Equals `re.sub("<.*?>", "", text)`, which takes quadratic time where many "<" wait for a ">"."""
    return TAG_OR_OPEN.sub(lambda match: "" if match[0].endswith(">") else match[0], text)


def with_few_marks(text: str) -> str:
    """Cut runs of combining marks to MOST_MARKS, counting the marks of decomposed characters."""
    if text.isascii():
        return text
    kept: list[str] = []
    marks = 0
    for character in text:
        parts = unicodedata.normalize("NFD", character)
        marks = marks + len(parts) if unicodedata.combining(parts[0]) else 0
        if marks <= MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def synset_of_word(word: str, *, wordnet: Any) -> int | None:
    """Offset of a word's synset, or None; `wordnet` is a WordNetCorpusReader.

    Equals `WordNetLemmatizer().lemmatize(word)`, then `wn.synset(lemma + ".n.01")` with every exception taken for none:
    the look-up fails just where there is no such noun. Asking first keeps NLTK from growing an entry for each of them.
    """
    lemmas: list[str] = wordnet._morphy(word, "n")
    if not lemmas:
        return None
    name = min(lemmas, key=len) + ".n.01"
    synset = wordnet.synset(name)
    # A synset is named after its first word: couch is a word of sofa.n.01 and gets nothing.
    return int(synset.offset()) if synset.name() == name else None


@contextmanager
def without_time_limit() -> Iterator[None]:
    """Lift the 5 s after which NLTK (since 3.10) gives up on an expression: labels must not depend on the clock.

    What NLTK runs here takes time in proportion to the caption; `pipeline` labels none of more than 64 KiB.
    """
    import nltk

    redos = getattr(nltk, "redos", None)
    if redos is None:
        yield
        return
    limit = redos.DEFAULT_TIMEOUT
    redos.DEFAULT_TIMEOUT = None
    try:
        yield
    finally:
        redos.DEFAULT_TIMEOUT = limit


def _split_words(text: str, *, sentences: Any, words: Any) -> list[str]:
    """NLTK's `word_tokenize`, with the sentence splitter as an argument."""
    return [word for sentence in sentences.tokenize(text) for word in words.tokenize(sentence)]


def trained_punkt() -> Any:
    """The sentence splitter of `word_tokenize`. Raises MissingRequirementError if its model is not installed."""
    from nltk.tokenize.punkt import PunktTokenizer

    try:
        return PunktTokenizer("english")
    except LookupError as error:
        raise _missing_data("tokenizers/punkt_tab", "punkt_tab, NLTK's model of where sentences end") from error


def untrained_punkt() -> Any:
    """A sentence splitter without abbreviations, for machines without NLTK's data."""
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    return PunktSentenceTokenizer()


def installed_wordnet() -> Any:
    """Find WordNet where NLTK's downloader puts it, unpacked or zipped. Raises MissingRequirementError without it."""
    import nltk

    for location in ("corpora/wordnet", "corpora/wordnet.zip/wordnet/"):
        try:
            return nltk.data.find(location)
        except LookupError:
            continue
    raise _missing_data("corpora/wordnet", "WordNet 3.0 as NLTK packs it")


def folder_of_wordnet(folder: Path) -> Any:
    """NLTK's path object of a folder of WordNet's database files. Raises InputError if one is missing."""
    from nltk.data import PathPointer

    for file in DATABASE_FILES:
        if not (folder / file).is_file():
            raise InputError(
                folder / file,
                found="no such file",
                wanted="WordNet 3.0's database files",
                remedy="Install Debian's wordnet-base, which puts them in /usr/share/wordnet, or leave the folder out.",
            )

    # NLTK's own pointer to a folder is refused outside NLTK's data.
    class Folder(PathPointer):  # type: ignore[misc]
        def __init__(self, path: Path) -> None:
            self.path = path

        def open(self, encoding: str | None = None) -> io.BytesIO:
            own = self.path.name == "lexnames" and not self.path.exists()
            return io.BytesIO(LEXNAMES.encode() if own else self.path.read_bytes())

        def file_size(self) -> int:
            return self.path.stat().st_size

        def join(self, fileid: str) -> Folder:
            return Folder(self.path / fileid)

    return Folder(folder)


def open_wordnet(root: Any) -> Any:
    """Make NLTK's reader over the files at `root`. Raises InputError if they are not WordNet 3.0's."""
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.data import SeekableUnicodeStreamReader

    class Reader(WordNetCorpusReader):  # type: ignore[misc]
        def open(self, file: str) -> Any:
            # Held in memory: an open file would be shared, place and all, by the processes that a worker forks.
            with root.join(file).open() as stream:
                return SeekableUnicodeStreamReader(io.BytesIO(stream.read()), self._ENCODING)

        def map_wn(self, version: str = "wordnet") -> None:
            """Do nothing: the original loads the wordnets of other languages, which takes seconds."""

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The multilingual functions are not available")
        reader = Reader(root, None)
    if reader.get_version() != WORDNET_VERSION:
        raise InputError(
            root,
            found=f"WordNet {reader.get_version()}",
            wanted=f"WordNet {WORDNET_VERSION}, whose offsets the labels are",
            remedy=f"Leave WordNet 2.1, 3.1 and Open English WordNet out of NLTK's data. {DATA_REMEDY}",
        )
    return reader


def _missing_data(thing: str, wanted: str) -> MissingRequirementError:
    import nltk

    return MissingRequirementError(
        f"NLTK's {thing}", found=f"not in any of {nltk.data.path}", wanted=wanted, remedy=DATA_REMEDY
    )
