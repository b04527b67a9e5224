"""Options of the pipeline's verbs: one frozen dataclass each, a docstring under every field as its help.

In: nothing. Out: a dataclass for each verb but `sample`, whose options live with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from vocab.errors import InputError
from vocab.labelers import SPACY_MODEL, LabelerName
from vocab.store.files import is_uri, local_path
from vocab.store.locations import Location, locations_in

StoredFormat = Literal["parquet", "tsv", "csv", "jsonl", "webdataset", "img2dataset", "coco"]
Format = Literal["auto", "parquet", "tsv", "csv", "jsonl", "webdataset", "img2dataset", "coco"]
Quoting = Literal["rfc4180", "backslash", "none"]
SameKey = Literal["refuse", "union"]


@dataclass(frozen=True)
class Label:
    """Turn captions into label shards: one Spark job, no vocabulary, run once per corpus."""

    captions: tuple[str, ...]
    """files, folders, globs (also of folders: dt=*/lang=en) or brace ranges with the captions; local paths or URIs
    (docs/places.md)"""
    out: str
    """directory of the label shards, new or empty; a local path or a URI"""
    format: Format = "auto"
    """how the captions are stored; auto: by the files' names; img2dataset's sidecars by their columns; COCO's captions
    by the content. A named format takes files of any extension"""
    caption_columns: tuple[str, ...] = ()
    """columns that hold captions, as text or as lists of texts; a row gets the union of their synsets. A field inside
    of one: json.caption. In tars: the members' extensions, or json.FIELD. Default: "caption"; in tars "txt" """
    synset_columns: tuple[str, ...] = ()
    """columns that name the row's synsets already: wnids (n02084071) or names (dog.n.01), as lists or as text with
    spaces or commas between. A row gets them beside those of its captions; without --caption-columns, them alone"""
    key_column: str | None = None
    """column of the sample's key or uid: text, dates or whole numbers, 7.0 and 7 alike; in TSV and CSV the text as it
    stands. Default: img2dataset's "key"; elsewhere the row's number in its file, unless there is a column "key" """
    shard_column: str | None = None
    """column of the shard's name. Default: the input file's stem"""
    same_key: SameKey = "refuse"
    """several rows of one (shard, key): an error, or one row with the union of their synsets, as for COCO, Flickr30k,
    where five rows hold the captions of an image. Samples of a tar that share a key are rejected either way"""
    columns: tuple[str, ...] = ()
    """names of the columns of a TSV or CSV file without a header line; without this the first line names them"""
    separator: str | None = None
    """sign between the columns of a TSV or CSV file, such as ";" or "|". Default: a tab or a comma, by its name"""
    quoting: Quoting | None = None
    """how a TSV or CSV file quotes: as RFC 4180, with a quote doubled in a text; with a backslash before it; or not at
    all, so that every line is a row. Default: as each file shows"""
    max_caption_bytes: int = 65_536
    """longer captions are rejected, not labelled"""
    rows_per_file: int = 5_000_000
    """rows of one part file, about"""
    task_bytes: int | None = None
    """bytes of captions that one task reads, about. Default: as many as give every core some tasks, 8 to 256 MiB"""
    strict: bool = False
    """fail at the first file that cannot be read, instead of naming it among the rejects"""
    allow_unlabelled: bool = False
    """finish although no row got a label; by default that is an error: --caption-columns likely names
    the wrong columns"""
    extend: bool = False
    """add the files that a finished label directory does not hold yet; those it holds need not be given again"""
    replace_changed: bool = False
    """with --extend: label files again that changed since, and only those, in place of their old rows"""
    log: Path | None = None
    """file to append a line of JSON to for every step of the job"""
    labeler: LabelerName = "catlip"
    """catlip is ours; spacy takes its parts of speech from a spaCy pipeline; reference is the rule of CatLIP's released
    code. Both need packages of their own, on every worker, and are many times slower"""
    spacy_model: str = SPACY_MODEL
    """for labeler spacy: the pipeline's package, or its folder"""
    wordnet: Path | None = None
    """for labeler reference: folder of WordNet 3.0's database files. Default: what NLTK's downloader installed"""
    master: str | None = None
    """Spark master: local[*], spark://HOST:PORT, yarn, k8s://... Default: spark-submit's, else local[*]"""

    def __post_init__(self) -> None:
        _require_positive("max_caption_bytes", self.max_caption_bytes)
        _require_positive("rows_per_file", self.rows_per_file)
        _require_positive("task_bytes", 1 if self.task_bytes is None else self.task_bytes)
        _spell_places(self)
        if self.replace_changed and not self.extend:
            raise InputError(
                "--replace-changed",
                found="given without --extend",
                wanted="a finished label directory to extend",
                remedy="Give --extend too, or leave it out.",
            )
        _require_labeler("spacy_model", given=self.spacy_model != SPACY_MODEL, wanted="spacy", chosen=self.labeler)
        _require_labeler("wordnet", given=self.wordnet is not None, wanted="reference", chosen=self.labeler)
        _require_separator(self.separator)
        given = [name for name in ("columns", "separator", "quoting") if getattr(self, name)]
        if given and self.format in ("parquet", "jsonl", "webdataset", "img2dataset", "coco"):
            raise InputError(
                f"--{given[0]}",
                found=f"given for format {self.format}",
                wanted="tsv or csv",
                remedy="Leave it out: only TSV and CSV files have separators, quotes and lines without a header.",
            )


@dataclass(frozen=True)
class Prune:
    """Choose a vocabulary from the counts of one or more label directories: seconds, whatever the corpus."""

    labels: tuple[str, ...]
    """label directories; the counts of several are added"""
    out: Location | None = None
    """vocabulary file to write, such as vocabulary.parquet. Without it nothing is written: a table of thresholds shows
    what there is to choose from"""
    min_count: int | None = None
    """keep synsets that at least this many captions hold (V_tau; the paper takes 500)"""
    top_k: int | None = None
    """or keep this many of the most frequent"""
    count_unlabelled: bool = False
    """read the label shards once, to tell how many rows the vocabulary leaves without a label"""

    def __post_init__(self) -> None:
        _spell_places(self)


@dataclass(frozen=True)
class Report:
    """Show what a finished label directory holds, on one HTML page that needs no network. Seconds, and no Spark."""

    labels: str
    """label directory; a local path or a URI"""
    out: Location
    """page to write, such as report.html; a new name"""
    captions: tuple[str, ...] = ()
    """the labelled input files, or some of them, to show captions beside the synsets; labels hold none"""
    examples: int = 3
    """captions shown for a synset, at most"""
    min_count: int = 500
    """threshold (V_tau) at which the vocabulary is judged; the paper takes 500"""
    classes: Location | None = None
    """file of wnids, one a line, such as ImageNet-1k's: how many of them the labels come near to"""

    def __post_init__(self) -> None:
        _require_positive("examples", self.examples)
        _require_positive("min_count", self.min_count)
        _spell_places(self)


@dataclass(frozen=True)
class Explain:
    """Say what becomes of captions, and why: words, parts of speech, senses. Takes seconds, and no Spark."""

    captions: tuple[str, ...]
    """captions, each in quotes"""

    def __post_init__(self) -> None:
        if not self.captions:
            raise InputError(
                "explain",
                found="no caption",
                wanted="one or more, each in quotes",
                remedy='Run: python -m pipeline explain "a dog on a couch"',
            )


@dataclass(frozen=True)
class Check:
    """Compare labels with image tars: which samples have no label, which labels no sample. Reads tar headers alone."""

    labels: str
    """label directory"""
    images: tuple[str, ...]
    """files, folders or globs with the image tars"""
    max_missing: float = 0.0
    """share of the samples that may have neither a label nor a reject. By default none: labels made from these images
    account for every sample, and labels made from others are better noticed here than after a day of training"""
    max_surplus: float = 0.0
    """share of the labels that may have no sample. By default none, for the same reason; pass 1 to check some tars of a
    corpus against the labels of all"""
    worst: int = 10
    """tars shown, those that fit worst"""
    out: Location | None = None
    """JSON file to write: the totals, and the account of every tar"""
    master: str | None = None
    """Spark master, as for label"""

    def __post_init__(self) -> None:
        _require_share("max_missing", self.max_missing)
        _require_share("max_surplus", self.max_surplus)
        _require_positive("worst", self.worst)
        _spell_places(self)


@dataclass(frozen=True)
class Align:
    """Make labels whose keys are ids follow the tars of images downloaded later, joined by id."""

    labels: str
    """label directory whose keys are the ids (python -m pipeline label --key-column uid)"""
    images: tuple[str, ...]
    """files, folders or globs: img2dataset's sidecars (00000.parquet beside 00000.tar), or tars for an id in json"""
    id_column: str
    """the sidecars' column that holds the id; or json.FIELD, a field of the tars' .json members; or __key__, the
    samples' keys: for labels whose keys are names of image files, with or without their extension (COCO, Flickr30k)"""
    out: str
    """directory of the aligned label shards; new or empty"""
    rows_per_file: int = 5_000_000
    """rows of one part file, about"""
    master: str | None = None
    """Spark master, as for label"""

    def __post_init__(self) -> None:
        _require_positive("rows_per_file", self.rows_per_file)


@dataclass(frozen=True)
class Verify:
    """Compare two labelers on a sample of your own captions: how often they agree, and where not. Needs no Spark."""

    captions: tuple[str, ...]
    """files, folders or globs with the captions, in any format that label reads"""
    labelers: tuple[LabelerName, LabelerName] = ("catlip", "reference")
    """the two: what the second gives beyond the first is gained, what it lacks is lost"""
    sample: int = 10_000
    """rows to draw"""
    examples: int = 20
    """captions shown of those whose labels differ"""
    seed: int = 0
    """the same seed and files give the same sample"""
    out: Location | None = None
    """JSON file to write: everything shown"""
    format: Format = "auto"
    """how the captions are stored, as for label"""
    caption_columns: tuple[str, ...] = ()
    """columns that hold captions, as for label; each text counts as a caption of its own"""
    columns: tuple[str, ...] = ()
    """names of the columns of a TSV or CSV file without a header line"""
    separator: str | None = None
    """sign between the columns of a TSV or CSV file, as for label"""
    quoting: Quoting | None = None
    """how a TSV or CSV file quotes, as for label"""
    spacy_model: str = SPACY_MODEL
    """for labeler spacy: the pipeline's package, or its folder"""
    wordnet: Path | None = None
    """for labeler reference: folder of WordNet 3.0's database files"""
    punkt: Literal["installed", "untrained"] = "installed"
    """for labeler reference: where sentences end, by NLTK's trained model, or without training, which needs no data"""

    def __post_init__(self) -> None:
        _require_positive("sample", self.sample)
        _require_separator(self.separator)
        _spell_places(self)
        if self.examples < 0:
            raise InputError("--examples", found=str(self.examples), wanted="0 or more", remedy="0 shows none.")
        if self.labelers[0] == self.labelers[1]:
            raise InputError(
                "--labelers",
                found=f"{self.labelers[0]} twice",
                wanted="two different labelers",
                remedy=f"Choose from {', '.join(get_args(LabelerName))}.",
            )


def _require_separator(separator: str | None) -> None:
    sign = "," if separator is None else separator.replace("\\t", "\t")
    if len(sign) != 1 or not sign.isascii() or sign in '"\\\r\n':
        raise InputError(
            "--separator",
            found=repr(separator),
            wanted="one ASCII sign that is no quote, no backslash and no line end",
            remedy="Give one such as ',' ';' '|' or '\\t'.",
        )


def _spell_places(options: object) -> None:
    """Spell the places in one way. Raises InputError, naming the option, for a URI in one that takes none."""
    for name, value in locations_in(options).items():
        # The dataclasses are frozen; this is a part of making one.
        object.__setattr__(options, name, value)
    model = getattr(options, "spacy_model", "")
    if is_uri(model):
        object.__setattr__(options, "spacy_model", str(local_path(model, option="--spacy-model")))


def _require_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(
            f"--{name.replace('_', '-')}",
            found=str(value),
            wanted="0 to 1",
            remedy="It is a share: 0.01 is one in 100.",
        )


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        raise InputError(
            f"--{name.replace('_', '-')}", found=str(value), wanted="at least 1", remedy="Leave it out for the default."
        )


def _require_labeler(name: str, *, given: bool, wanted: LabelerName, chosen: LabelerName) -> None:
    if given and chosen != wanted:
        raise InputError(
            f"--{name.replace('_', '-')}",
            found=f"given for labeler {chosen}",
            wanted=f"labeler {wanted}",
            remedy=f"Leave it out, or choose --labeler {wanted}.",
        )
