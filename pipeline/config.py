"""Options of the pipeline's verbs: one frozen dataclass each; the docstring under a field is its help.

The options of `sample` are in `pipeline/sample/config.py`.
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

MAX_CAPTION_BYTES = 65_536
"""bytes of the longest caption that is labelled, unless options say otherwise"""


@dataclass(frozen=True)
class Label:
    """Turn captions into label shards: one Spark job, no vocabulary, run once per corpus."""

    captions: tuple[str, ...]
    """files, folders, globs (also of folders: dt=*/lang=en) or brace ranges with the captions; local paths or URIs
    (docs/places.md)"""
    out: str
    """directory of the label shards, new or empty; a local path or a URI"""
    format: Format = "auto"
    """how the captions are stored. auto tells by the files' names; img2dataset's sidecars by their columns; COCO's
    captions by their content. A named format takes files of any extension"""
    caption_columns: tuple[str, ...] = ()
    """columns that hold captions, as text or lists of texts; a row gets the union of their synsets. json.caption is a
    field inside a column. In tars: extensions of members, or json.FIELD. Default: "caption"; in tars "txt" """
    synset_columns: tuple[str, ...] = ()
    """columns that name synsets: wnids (n02084071) or names (dog.n.01), as lists, or as text with spaces or commas
    between them. A row gets these and the synsets of its captions; without --caption-columns, only these"""
    key_column: str | None = None
    """column of the sample's key or uid: text, dates or whole numbers (7.0 equals 7); in TSV and CSV the text as it is.
    Default: img2dataset's "key"; elsewhere the row's number in its file, unless there is a column "key" """
    shard_column: str | None = None
    """column that names the shard. Default: the input file's stem"""
    same_key: SameKey = "refuse"
    """how to treat several rows of one (shard, key): refuse them, or join them to one row with the union of their
    synsets, as for COCO and Flickr30k, which have five rows for each image. Samples of a tar that share a key are
    rejected either way"""
    columns: tuple[str, ...] = ()
    """names of the columns of a TSV or CSV file without a header line. Default: the first line names them"""
    separator: str | None = None
    """separator of the columns of a TSV or CSV file, such as ";" or "|". Default: tab for TSV, comma for CSV"""
    quoting: Quoting | None = None
    """how a TSV or CSV file quotes. rfc4180: a quote inside a text is doubled; backslash: one stands before it; none:
    quotes are ordinary characters, and every line is a row. Default: detected in the beginning of each file"""
    max_caption_bytes: int = MAX_CAPTION_BYTES
    """bytes of the longest caption that is labelled; longer ones are rejected"""
    rows_per_file: int = 5_000_000
    """approximate number of rows in a part file"""
    task_bytes: int | None = None
    """approximate bytes of captions that one task reads. Default: 8 to 256 MiB, so that every core gets some tasks"""
    strict: bool = False
    """fail at the first file that cannot be read, instead of listing it among the rejects"""
    allow_unlabelled: bool = False
    """finish even if no row got a label. By default that is an error: most often --caption-columns names the wrong
    columns"""
    extend: bool = False
    """add new files to a finished label directory; files that it holds already need not be given again"""
    replace_changed: bool = False
    """with --extend: label changed files anew, and only those; their new rows replace the old"""
    log: Path | None = None
    """log file; each step of the job appends a line of JSON"""
    labeler: LabelerName = "catlip"
    """catlip is the project's own; spacy takes parts of speech from a spaCy pipeline; reference is the rule of CatLIP's
    released code. The last two need packages of their own on every worker, and are many times slower"""
    spacy_model: str = SPACY_MODEL
    """for --labeler spacy: the pipeline's package, or its folder"""
    wordnet: Path | None = None
    """for --labeler reference: folder of WordNet 3.0's database files. Default: as NLTK's downloader installed it"""
    master: str | None = None
    """Spark master: local[*], spark://HOST:PORT, yarn, k8s://... Default: spark-submit's, else local[*]"""

    def __post_init__(self) -> None:
        _require_positive("max_caption_bytes", self.max_caption_bytes)
        _require_positive("rows_per_file", self.rows_per_file)
        _require_positive("task_bytes", 1 if self.task_bytes is None else self.task_bytes)
        _spell_locations(self)
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
    """Choose a vocabulary from the counts of one or more label directories: takes seconds for any corpus."""

    labels: tuple[str, ...]
    """label directories; the counts of several are added"""
    out: Location | None = None
    """vocabulary file to write, such as vocabulary.parquet. Without it nothing is written, and a table shows the size
    of the vocabulary at each threshold"""
    min_count: int | None = None
    """keep synsets in at least this many captions (V_tau; 500 in the paper)"""
    top_k: int | None = None
    """or keep this many of the most frequent synsets"""
    count_unlabelled: bool = False
    """also count the rows that the vocabulary leaves without a label: one pass over the label shards"""

    def __post_init__(self) -> None:
        _spell_locations(self)


@dataclass(frozen=True)
class Report:
    """Show a finished label directory on one HTML page that needs no network. Takes seconds, and no Spark."""

    labels: str
    """label directory; a local path or a URI"""
    out: Location
    """page to write, such as report.html; must not exist yet"""
    captions: tuple[str, ...] = ()
    """the labelled input files, or some of them: label directories hold no captions to show beside the synsets"""
    examples: int = 3
    """most captions shown for a synset"""
    min_count: int = 500
    """threshold (V_tau) at which the page judges the vocabulary; 500 in the paper"""
    classes: Location | None = None
    """file of wnids, one a line, such as ImageNet-1k's: the page shows how many of them the labels come near to"""

    def __post_init__(self) -> None:
        _require_positive("examples", self.examples)
        _require_positive("min_count", self.min_count)
        _spell_locations(self)


@dataclass(frozen=True)
class Explain:
    """Explain the labels of captions: words, parts of speech, senses. Takes seconds, and no Spark."""

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
    """Compare labels with image tars: samples without a label, labels without a sample. Reads tar headers alone."""

    labels: str
    """label directory"""
    images: tuple[str, ...]
    """files, folders or globs with the image tars"""
    max_missing: float = 0.0
    """share of the samples that may be missing from labels and rejects. Default: none. Labels of these images account
    for every sample, and labels of other images are better noticed here than after a day of training"""
    max_surplus: float = 0.0
    """share of the labels that may lack a sample. Default: none, for the same reason. 1 checks some tars of a corpus
    against the labels of all"""
    worst: int = 10
    """number of tars shown: those that fit their labels worst"""
    out: Location | None = None
    """JSON file to write, with the totals and the account of every tar"""
    master: str | None = None
    """Spark master, as for label"""

    def __post_init__(self) -> None:
        _require_share("max_missing", self.max_missing)
        _require_share("max_surplus", self.max_surplus)
        _require_positive("worst", self.worst)
        _spell_locations(self)


@dataclass(frozen=True)
class Align:
    """Give labels whose keys are ids the shards and keys of image tars that were downloaded later, joined by id."""

    labels: str
    """label directory whose keys are the ids (python -m pipeline label --key-column uid)"""
    images: tuple[str, ...]
    """files, folders or globs: img2dataset's sidecars (00000.parquet beside 00000.tar), or tars that hold the ids"""
    id_column: str
    """column of the sidecars that holds the id; or json.FIELD, a field of the tars' .json members; or __key__, the
    samples' own keys, for labels keyed by names of image files, with or without extension (COCO, Flickr30k)"""
    out: str
    """directory of the aligned label shards, new or empty"""
    rows_per_file: int = 5_000_000
    """approximate number of rows in a part file"""
    master: str | None = None
    """Spark master, as for label"""

    def __post_init__(self) -> None:
        _require_positive("rows_per_file", self.rows_per_file)


@dataclass(frozen=True)
class Verify:
    """Compare two labelers on a sample of your own captions: where they agree, and where not. Needs no Spark."""

    captions: tuple[str, ...]
    """files, folders or globs with the captions, in any format that label reads"""
    labelers: tuple[LabelerName, LabelerName] = ("catlip", "reference")
    """the two labelers: labels that only the second gives are gained, labels that only the first gives are lost"""
    sample: int = 10_000
    """rows to draw"""
    examples: int = 20
    """number of captions shown whose labels differ"""
    seed: int = 0
    """seed of the sample: the same seed and files give the same sample"""
    out: Location | None = None
    """JSON file to write, with everything shown"""
    format: Format = "auto"
    """how the captions are stored, as for label"""
    caption_columns: tuple[str, ...] = ()
    """columns that hold captions, as for label; here each text is a caption of its own"""
    columns: tuple[str, ...] = ()
    """names of the columns of a TSV or CSV file without a header line"""
    separator: str | None = None
    """separator of the columns of a TSV or CSV file, as for label"""
    quoting: Quoting | None = None
    """how a TSV or CSV file quotes, as for label"""
    spacy_model: str = SPACY_MODEL
    """for --labeler spacy: the pipeline's package, or its folder"""
    wordnet: Path | None = None
    """for --labeler reference: folder of WordNet 3.0's database files"""
    punkt: Literal["installed", "untrained"] = "installed"
    """for --labeler reference: NLTK's model of sentence ends, as installed, or untrained, which needs no data"""

    def __post_init__(self) -> None:
        _require_positive("sample", self.sample)
        _require_separator(self.separator)
        _spell_locations(self)
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
            wanted="one ASCII character that is not a quote, a backslash or a line end",
            remedy="Give one such as ',' ';' '|' or '\\t'.",
        )


def _spell_locations(options: object) -> None:
    """Write all locations in one form. Raises InputError, naming the option, for a URI in one that takes none."""
    for name, value in locations_in(options).items():
        # The dataclass is frozen; this is part of its construction.
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
