"""A user's own words: a file of words and phrases, each with the synset that it means, or with none.

    # comments and blank lines do not count
    pikachu = toy.n.03                a name of WordNet 3.0 (dog.n.01) or a wnid (n03964744)
    hot dog = frank.n.02              up to four words
    vintage =                         nothing, or -: no label
    pikachu<TAB>n03964744             the same with a tab, or with a comma, as spreadsheets save tables;
    "hot dog",frank.n.02              a first line word,synset is a header

An entry is read as captions are: capitals, accents and typographic signs do not count, and any digit stands for all.
`vocab.user_tables` teaches the entries to the labeler. A label directory keeps them as `lexicon.parquet`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vocab.cleaning import FOREIGN_LETTER, clean_all
from vocab.errors import InputError
from vocab.lexicon import MAX_WORDS
from vocab.store.files import DAMAGED, filesystem_of, is_web, write_whole
from vocab.store.label_shards import LabelShards
from vocab.store.locations import Location, read_whole, suffix_of, why
from vocab.synset_names import remedy_for, synset_named
from vocab.tokens import ABBREVIATED, UNBROKEN, Gap, split_words
from vocab.wordnet import wnid_of

MAX_BYTES = 64 << 20
"""bytes of the largest file that is read"""
LINE_END = re.compile(r"\r\n|\r|\n")
COMMENT = re.compile(r"(?:^|(?<=\s))#.*$")
ANY_SIGN = "/"
"""stands between the words of an entry that is found whatever signs part them: ac/dc"""
NO_SYNSET = ("", "-")
OF_COMMAS = re.compile(r'([^,"]*|"(?:[^"]|"")*"),([^,]*),*')
"""line of a CSV: words, in quotes or not, and a synset; empty cells behind them do not count"""
TEXT = re.compile(rf"(?:[a-z0-9]+(?:[ {ANY_SIGN}][a-z0-9]+){{0,{MAX_WORDS - 1}}}\t(?:n[0-9]{{8}})?\n)+")
SCHEMA = pa.schema([pa.field("word", pa.string(), nullable=False), pa.field("synset", pa.int32())])
LINE = "a line such as 'hot dog = frank.n.02', with a tab or a comma in place of =, or 'vintage =' for no label"


@dataclass(frozen=True)
class UserLexicon:
    """The entries in one spelling and order: files that differ in comments, order or capitals alone are equal."""

    text: str
    """a line for each entry: its words, a tab, and its wnid or nothing"""

    def __post_init__(self) -> None:
        if TEXT.fullmatch(self.text) is None:
            raise ValueError(f"entries of a lexicon in another spelling, {self.text!r:.80}")

    @cached_property
    def sha256(self) -> str:
        """Checksum of the entries."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def entries(self) -> list[tuple[str, int | None]]:
        """Words, parted by spaces or `ANY_SIGN`, and the offset of the synset."""
        pairs = (line.split("\t") for line in self.text.splitlines())
        return [(words, int(wnid[1:]) if wnid else None) for words, wnid in pairs]

    def about(self) -> dict[str, object]:
        """Number of the entries and their checksum, as plans and manifests hold them."""
        return {"entries": len(self.entries), "sha256": self.sha256}

    def write(self, location: Location) -> None:
        """Write the entries as Parquet."""
        words, synsets = zip(*self.entries, strict=True)
        with write_whole(location) as file:
            pq.write_table(pa.table([words, synsets], schema=SCHEMA), file, compression="zstd")


@dataclass(frozen=True)
class Line:
    """An entry as a file has it."""

    place: str
    """for messages: "words.txt, line 3" """
    words: str
    synset: int | None


def read_lexicon(location: Location) -> UserLexicon:
    """Read a file of entries, or those that a label directory holds.

    Raises InputError, naming the line, for an entry that cannot be read, for words with two synsets, and for a file
    without entries; FormatError for a label directory that is not whole.
    """
    if (stored := _label_directory(location)) is not None:
        lexicon = lexicon_of(stored)
        if lexicon is None:
            raise _refused(location, "labels made without a lexicon", "a lexicon", "Leave --lexicon out.")
        return lexicon
    if suffix_of(location) == ".parquet":
        return _from_table(location, _table(location))
    return lexicon_in(_text(location), name=str(location))


def lexicon_of(labels: LabelShards) -> UserLexicon | None:
    """The lexicon that a label directory was made with; None where there was none."""
    table = labels.lexicon()
    return None if table is None else _from_table(labels.location, table)


def lexicon_in(text: str, *, name: str) -> UserLexicon:
    """Parse the text of a file. `name` is for messages. Raises InputError for what `read_lexicon` does."""
    return _lexicon_of(name, list(_lines(text, name)))


def _lines(text: str, name: str) -> Iterator[Line]:
    found: dict[str, int | None] = {}
    for number, written in enumerate(LINE_END.split(text), start=1):
        line = COMMENT.sub("", written).strip(" ")
        if not line.strip():
            continue
        place = f"{name}, line {number:,}"
        words, meant = _cells(line, place)
        if number == 1 and [words.lower(), meant.lower()] == SCHEMA.names:
            continue
        if meant not in found:
            found[meant] = _synset(meant, place)
        yield Line(place, words, found[meant])


def _cells(line: str, place: str) -> tuple[str, str]:
    """Words and synset of a line, as written."""
    if "=" not in line and "\t" not in line and (match := OF_COMMAS.fullmatch(line)) is not None:
        return match[1].strip(), match[2].strip(' "')
    words, sign, meant = line.partition("=" if "=" in line else "\t")
    if not sign:
        raise _refused(place, f"{line!r}, without =, tab or comma", LINE, "For no label, write the word and =.")
    return words.strip(), meant.strip()


def _synset(meant: str, place: str) -> int | None:
    """The synset that an entry names; None for none."""
    if meant in NO_SYNSET:
        return None
    if (synset := synset_named(meant)) is not None:
        return synset
    names = re.split(r"[\s,;|]+", meant)
    if len(names) > 1 and all(synset_named(each) is not None for each in names):
        raise _refused(
            place, f"{len(names)} synsets, {meant!r}", "one synset for a word, or none", "Choose one of them."
        )
    raise _refused(place, f"{meant!r}", "a noun of WordNet 3.0, as dog.n.01 or n02084071", remedy_for(meant))


def _lexicon_of(name: str, lines: Sequence[Line]) -> UserLexicon:
    """The lexicon of some entries. Raises InputError for words that cannot be one, and for those with two synsets."""
    if not lines:
        raise _refused(name, "no entry", LINE, "Add entries, or leave --lexicon out.")
    tokens = split_words(clean_all(pa.array([line.words for line in lines], pa.string())))
    words, gaps, starts = tokens.words.to_pylist(), tokens.gaps.tolist(), tokens.starts.tolist()
    entries: dict[tuple[str, ...], tuple[Line, bool]] = {}
    for line, start, end in zip(lines, starts[:-1], starts[1:], strict=True):
        forms = tuple(words[start:end])
        _refuse_unreadable(line, forms)
        any_sign = any(
            gap not in UNBROKEN or (gap == Gap.STOP and len(before) > ABBREVIATED)
            for gap, before in zip(gaps[start + 1 : end], forms[:-1], strict=True)
        )
        other, any_other = entries.get(forms, (line, False))
        if other.synset != line.synset:
            raise _two_synsets(other, line, forms)
        entries[forms] = other, any_sign or any_other
    spelled = sorted(
        ((ANY_SIGN if any_sign else " ").join(forms), line.synset) for forms, (line, any_sign) in entries.items()
    )
    return UserLexicon("".join(f"{each}\t{'' if synset is None else wnid_of(synset)}\n" for each, synset in spelled))


def _refuse_unreadable(line: Line, forms: Sequence[str]) -> None:
    """Raise InputError for words that the labeler would not find, or could not tell from others."""
    wanted = f"one to {MAX_WORDS} words"
    if not forms:
        raise _refused(
            line.place, f"{line.words!r}, in which captions would have no word", wanted,
            "Write a word of letters; web addresses, tags and signs are taken out of captions.",
        )  # fmt: skip
    if len(forms) > MAX_WORDS:
        raise _refused(line.place, f"{line.words!r}, {len(forms)} words", wanted, "Shorten the phrase.")
    if any(FOREIGN_LETTER in form for form in forms):
        raise _refused(
            line.place, f"{line.words!r}, with letters that are not Latin", "words in Latin letters",
            "Leave the entry out: captions in other scripts are not labelled.",
        )  # fmt: skip
    if not any(re.search("[a-z]", form) for form in forms):
        raise _refused(
            line.place, f"{line.words!r}, digits alone", "a word with a letter: any digit stands for all",
            "Add a word: 'boeing 747'.",
        )  # fmt: skip


def _two_synsets(first: Line, second: Line, forms: Sequence[str]) -> InputError:
    of_both = " and ".join("no label" if line.synset is None else wnid_of(line.synset) for line in (first, second))
    digits = " (any digit stands for all)" if any("0" in form for form in forms) else ""
    return _refused(
        second.place, f"{second.words!r} again, as {first.words!r} in {first.place}: {of_both}",
        f"one synset for the same words{digits}", "Keep one of the two lines.",
    )  # fmt: skip


def _text(location: Location) -> str:
    try:
        content = read_whole(location, most=MAX_BYTES + 1)
    except OSError as error:
        raise _refused(location, why(error), "a file of words and synsets", "Check --lexicon.") from error
    if len(content) > MAX_BYTES:
        raise _refused(location, "more", f"at most {MAX_BYTES:,} bytes", "Shorten the file.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(
            f"{location}, line {line:,}", f"bytes that are not UTF-8 ({error.reason})", "UTF-8",
            "Save the file as UTF-8.",
        ) from error  # fmt: skip


def _label_directory(location: Location) -> LabelShards | None:
    """The label directory at a location, or None for a file."""
    if is_web(location):
        return None
    filesystem, root = filesystem_of(location)
    if filesystem.get_file_info(root).type != pafs.FileType.Directory:
        return None
    return LabelShards.open(location, checksums=False)


def _table(location: Location) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(read_whole(location))).select(SCHEMA.names)
    except DAMAGED as error:
        wanted = f"the columns {' and '.join(SCHEMA.names)}"
        raise _refused(
            location, f"unreadable ({error})", wanted, "Name the lexicon.parquet of labels, or a text."
        ) from error


def _from_table(location: Location, table: pa.Table) -> UserLexicon:
    """The lexicon of a table; its synsets and words are checked as those of a text."""
    pairs = zip(table["word"].to_pylist(), table["synset"].to_pylist(), strict=True)
    lines = [
        Line(
            f"{location}, row {number:,}",
            str(word),
            None if synset is None else _synset(wnid_of(synset), f"{location}, row {number:,}"),
        )
        for number, (word, synset) in enumerate(pairs)
    ]
    return _lexicon_of(str(location), lines)


def _refused(thing: object, found: str, wanted: str, remedy: str) -> InputError:
    return InputError(thing, found=found, wanted=wanted, remedy=remedy)
