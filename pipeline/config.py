"""Options of the pipeline's verbs: one frozen dataclass each; the docstring under a field is its help."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from vocab.errors import InputError
from vocab.labelers import SPACY_MODEL, LabelerName, refuse_lexicon
from vocab.store.files import is_uri, local_path
from vocab.store.locations import Location, locations_in

StoredFormat = Literal["parquet", "tsv", "csv", "jsonl", "webdataset", "img2dataset", "coco"]
Format = Literal["auto", "parquet", "tsv", "csv", "jsonl", "webdataset", "img2dataset", "coco"]
Quoting = Literal["rfc4180", "backslash", "none"]
SameKey = Literal["refuse", "union"]

MAX_SHARDS, MAX_SAMPLES_PER_SHARD = 100_000, 10_000
"""bounds of the drawn sample, whose keys have room for no more"""
MAX_CAPTION_BYTES = 65_536
"""bytes of the longest caption that is labelled, unless options say otherwise"""


@dataclass(frozen=True)
class Label:
    """Turn captions into label shards, in one Spark job, once per corpus."""

    SECTIONS: ClassVar[dict[str, tuple[str, ...]]] = {
        "more files for a finished directory": ("extend", "replace_changed"),
        "TSV and CSV files": ("columns", "separator", "quoting"),
        "labeler": ("labeler", "lexicon", "spacy_model", "wordnet"),
        "job": (
            "master", "strict", "allow_unlabelled", "max_caption_bytes", "rows_per_file", "task_bytes", "log",
        ),
    }  # fmt: skip

    captions: Annotated[tuple[str, ...], "PATH"]
    """files, folders, globs (of folders too: dt=*/lang=en) or brace ranges that hold the captions; local paths or URIs
    (docs/places.md)"""
    out: Annotated[str, "PATH"]
    """directory of the label shards, new or empty; a local path or a URI"""
    format: Format = "auto"
    """format of the captions; a named format takes files of any extension

    auto: by the files' names; img2dataset by the columns of its sidecars, COCO by what its files hold"""
    caption_columns: Annotated[tuple[str, ...], "NAME"] = ()
    """columns of captions: text, or lists of texts. A row gets the synsets of all of them. json.caption is a field
    inside of a column. In tars, give extensions of members, or json.FIELD (default: caption; in tars txt)"""
    synset_columns: Annotated[tuple[str, ...], "NAME"] = ()
    """columns of synsets, as wnids (n02084071) or names (dog.n.01): lists, or text with spaces or commas between them.
    A row gets these and the synsets of its captions; without --caption-columns, these alone"""
    key_column: Annotated[str | None, "NAME"] = None
    """column of the sample's key or uid: text, dates or whole numbers (7.0 equals 7); in TSV and CSV the text as it
    stands. Needed where a column is called key or __key__, unless --format is given; not for tars, whose samples have
    keys (default: img2dataset's "key"; in COCO the image's name; else the row's number in its file)"""
    shard_column: Annotated[str | None, "NAME"] = None
    """column that names the shard; not for tars (default: the input file's name without its extension)"""
    same_key: SameKey = "refuse"
    """answer to several rows of one shard that have the same key; in tars such samples are rejected either way

    refuse: end the job with an error
    union: make them one row with the synsets of all, as for the five captions of an image in COCO and Flickr30k"""
    columns: Annotated[tuple[str, ...], "NAME"] = ()
    """names of the columns, for files without a header line (default: the first line names them)"""
    separator: Annotated[str | None, "CHARACTER"] = None
    """character between two columns, such as ";" or "|" (default: tab in TSV, comma in CSV)"""
    quoting: Quoting | None = None
    """how texts are quoted (default: detected at the beginning of each file)

    rfc4180: a quote inside of a text is doubled
    backslash: a backslash stands before a quote inside of a text
    none: quotes are ordinary characters, and every line is a row"""
    max_caption_bytes: int = MAX_CAPTION_BYTES
    """longest caption that is labelled, bytes; longer ones are rejected"""
    rows_per_file: int = 5_000_000
    """approximate number of rows in a part file"""
    task_bytes: int | None = None
    """approximate bytes of captions that a task reads (default: 8 to 256 MiB, so that every core gets some tasks)"""
    strict: bool = False
    """stop at the first file that cannot be read, instead of listing it among the rejects"""
    allow_unlabelled: bool = False
    """finish even if no row got a label, which most often means that --caption-columns names the wrong columns"""
    extend: bool = False
    """add new files to a finished label directory; files that it holds already need not be given again"""
    replace_changed: bool = False
    """with --extend: label changed files anew, and only those; their new rows replace the old"""
    log: Path | None = None
    """file to which each step of the job appends a line of JSON"""
    labeler: LabelerName = "catlip"
    """rule that turns a caption into synsets; spacy and reference need packages of their own on every worker, and are
    many times slower

    catlip: the project's own
    spacy: parts of speech from a spaCy pipeline
    reference: the rule of CatLIP's released code"""
    lexicon: Location | None = None
    """file of your own words, read before everything built in: a line such as 'hot dog = frank.n.02', or 'vintage ='
    for no label (docs/labels.md); or a label directory, for the words that it was made with. Not with reference"""
    spacy_model: Annotated[str, "PATH"] = SPACY_MODEL
    """with --labeler spacy: package of the pipeline, or its folder"""
    wordnet: Path | None = None
    """with --labeler reference: folder of WordNet 3.0's database files (default: where NLTK's downloader puts them)"""
    master: Annotated[str | None, "URL"] = None
    """Spark master: local[*], spark://HOST:PORT, yarn, k8s://... (default: spark-submit's, else local[*])"""

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
        refuse_lexicon(self.labeler, given=self.lexicon is not None)
        _require_separator(self.separator)
        refuse_ignored(self, self.format)


@dataclass(frozen=True)
class Prune:
    """Choose a vocabulary from the counts of label directories, in seconds for any corpus."""

    labels: Annotated[tuple[str, ...], "PATH"]
    """label directories; the counts of several are added"""
    out: Location | None = None
    """vocabulary file to write, such as vocabulary.parquet (default: write nothing, and show how many classes each
    threshold leaves)"""
    min_count: int | None = None
    """keep synsets in at least this many captions (V_tau; 500 in the paper)"""
    top_k: int | None = None
    """keep this many of the most frequent synsets; in place of --min-count"""
    depictable: bool = False
    """keep only what a picture can show: dog and beach, not price or quality (docs/labels.md)"""
    only: Annotated[tuple[str, ...], "LIST"] = ()
    """keep only the synsets of these lists: files with a wnid, a name (dog.n.01), a word, or a whole subtree
    (person.n.01+) a line; or ready-made ones: imagenet-1k, imagenet-21k, places365"""
    without: Annotated[tuple[str, ...], "LIST"] = ()
    """leave out the synsets of these lists, written like those of --only; ready-made: slurs-and-adult"""
    merge_duplicates: bool = False
    """make one class of synsets that captions use for the same thing (girl, lass, female child), which takes one pass
    over the label shards"""
    count_unlabelled: bool = False
    """also count the rows that the vocabulary leaves without a label, which takes one pass over the label shards"""

    def __post_init__(self) -> None:
        _spell_locations(self)
        given = [name for name in ("min_count", "top_k", "count_unlabelled") if getattr(self, name)]
        if given and self.out is None:
            raise InputError(
                "--out",
                found=f"nothing, and --{given[0].replace('_', '-')}",
                wanted="a file to write",
                remedy="Name one: --out vocabulary.parquet",
            )


@dataclass(frozen=True)
class Report:
    """Show a finished label directory on one HTML page, in seconds and without Spark."""

    labels: Annotated[str, "PATH"]
    """label directory; a local path or a URI"""
    out: Location
    """page to write, such as report.html; must not exist yet"""
    captions: Annotated[tuple[str, ...], "PATH"] = ()
    """the labelled input files, or some of them, to show captions beside the synsets; label directories hold none"""
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
    """Explain the labels of captions: words, parts of speech, senses."""

    captions: Annotated[tuple[str, ...], "CAPTION"]
    """captions, each in quotes"""
    lexicon: Location | None = None
    """file of your own words, as for label; or a label directory, for the words that it was made with"""

    def __post_init__(self) -> None:
        _spell_locations(self)
        if not self.captions:
            raise InputError(
                "explain",
                found="no caption",
                wanted="one or more, each in quotes",
                remedy='Run: python -m pipeline explain "a dog on a couch"',
            )


@dataclass(frozen=True)
class Check:
    """Compare labels with image tars: samples without a label, labels without a sample."""

    labels: Annotated[str, "PATH"]
    """label directory"""
    images: Annotated[tuple[str, ...], "PATH"]
    """image tars: files, folders or globs"""
    max_missing: float = 0.0
    """largest share of the samples that may have neither label nor reject. Labels of these images account for every
    sample; labels of other images are better noticed here than after a day of training"""
    max_surplus: float = 0.0
    """largest share of the labels that may lack a sample. Give 1 to check some tars of a corpus against the labels of
    all"""
    worst: int = 10
    """number of tars to show: those that fit their labels worst"""
    out: Location | None = None
    """JSON file to write, with the totals and the account of every tar"""
    master: Annotated[str | None, "URL"] = None
    """Spark master, as for label (default: spark-submit's, else local[*])"""

    def __post_init__(self) -> None:
        _require_share("max_missing", self.max_missing)
        _require_share("max_surplus", self.max_surplus)
        _require_positive("worst", self.worst)
        _spell_locations(self)


@dataclass(frozen=True)
class Align:
    """Match labels made by id with image tars that were downloaded later."""

    labels: Annotated[str, "PATH"]
    """label directory whose keys are the ids (python -m pipeline label --key-column uid)"""
    images: Annotated[tuple[str, ...], "PATH"]
    """img2dataset's sidecars (00000.parquet beside 00000.tar), or tars that hold the ids: files, folders or globs"""
    id_column: Annotated[str, "NAME"]
    """place of the id: a column of the sidecars; json.FIELD, a field of the tars' .json members; or __key__, the
    samples' own keys, for labels keyed by names of image files, with or without extension (COCO, Flickr30k)"""
    out: Annotated[str, "PATH"]
    """directory of the aligned label shards, new or empty"""
    rows_per_file: int = 5_000_000
    """approximate number of rows in a part file"""
    master: Annotated[str | None, "URL"] = None
    """Spark master, as for label (default: spark-submit's, else local[*])"""

    def __post_init__(self) -> None:
        _require_positive("rows_per_file", self.rows_per_file)


@dataclass(frozen=True)
class Verify:
    """Compare two labelers on a sample of your own captions."""

    SECTIONS: ClassVar[dict[str, tuple[str, ...]]] = {
        "reading the captions": ("format", "caption_columns", "columns", "separator", "quoting"),
        "labelers": ("lexicon", "spacy_model", "wordnet", "punkt"),
    }

    captions: Annotated[tuple[str, ...], "PATH"]
    """captions in any format that label reads: files, folders or globs"""
    labelers: tuple[LabelerName, LabelerName] = ("catlip", "reference")
    """two labelers. Labels that only the second gives are gained, labels that only the first gives are lost"""
    sample: int = 10_000
    """rows to draw"""
    examples: int = 20
    """number of captions shown whose labels differ"""
    seed: int = 0
    """seed of the sample: the same seed and files give the same sample"""
    out: Location | None = None
    """JSON file to write, with everything shown"""
    format: Format = "auto"
    """format of the captions, as for label"""
    caption_columns: Annotated[tuple[str, ...], "NAME"] = ()
    """columns of captions, as for label; here each text is a caption of its own (default: caption; in tars txt)"""
    columns: Annotated[tuple[str, ...], "NAME"] = ()
    """names of the columns, for files without a header line (default: the first line names them)"""
    separator: Annotated[str | None, "CHARACTER"] = None
    """character between two columns, as for label (default: tab in TSV, comma in CSV)"""
    quoting: Quoting | None = None
    """how texts are quoted, as for label (default: detected at the beginning of each file)"""
    lexicon: Location | None = None
    """file of your own words for catlip and spacy, as for label; or a label directory, for the words that it was made
    with. reference goes without"""
    spacy_model: Annotated[str, "PATH"] = SPACY_MODEL
    """with --labelers spacy: package of the pipeline, or its folder"""
    wordnet: Path | None = None
    """with --labelers reference: folder of WordNet 3.0's database files (default: where NLTK's downloader puts them)"""
    punkt: Literal["installed", "untrained"] = "installed"
    """with --labelers reference: NLTK's model of the ends of sentences

    installed: as NLTK's downloader installed it
    untrained: one that needs no data"""

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


@dataclass(frozen=True)
class SampleConfig:
    """Draw a data set of images with captions, offline, to try everything on."""

    out: Path
    """folder to write, new or empty"""
    samples: int = 12_000
    """number of samples"""
    samples_per_shard: int | None = None
    """samples in a tar and its Parquet file, at most 10,000 (default: 1,000, or a quarter of the samples where that is
    less, for a run needs tars to train on and others to evaluate on)"""
    seed: int = 0
    """seed of every draw; a sample depends on the seed and on its own number alone"""
    size: int = 96
    """side of the square images, pixels"""
    mode: Literal["scenes", "objects", "captions"] = "scenes"
    """contents of the data set

    scenes: images with captions
    objects: images of one labelled object, for probes
    captions: captions alone, as Parquet"""
    processes: int | None = None
    """processes that draw, which do not change the bytes written (default: one for each processor)"""

    def __post_init__(self) -> None:
        _spell_locations(self)
        _require_range("samples_per_shard", self.per_shard, 1, MAX_SAMPLES_PER_SHARD)
        _require_range("samples", self.samples, 1, MAX_SHARDS * self.per_shard)
        _require_range("seed", self.seed, 0, 2**63 - 1)
        _require_range("size", self.size, 16, 2048)
        _require_range("processes", 1 if self.processes is None else self.processes, 1, 1024)

    @property
    def per_shard(self) -> int:
        """Samples in one tar."""
        if self.samples_per_shard is not None:
            return self.samples_per_shard
        return max(1, min(1_000, -(-self.samples // 4)))

    @property
    def shards(self) -> int:
        """Number of shards that the samples fill."""
        return -(-self.samples // self.per_shard)

    @property
    def workers(self) -> int:
        """Number of processes that draw, at most one for each shard."""
        return min(self.processes or os.cpu_count() or 1, self.shards)


def refuse_ignored(options: Label, stored: Format) -> None:
    """Raise InputError for an option that files of a format have no use for."""
    tables = "only TSV and CSV files have separators, quotes and lines without a header."
    tars = "a sample's key is its name in its tar, and the tar is its shard."
    for names, formats, why in (
        (("columns", "separator", "quoting"), ("tsv", "csv"), tables),
        (("key_column", "shard_column"), ("parquet", "tsv", "csv", "jsonl", "img2dataset", "coco"), tars),
    ):
        given = [name for name in names if getattr(options, name)]
        if given and stored not in ("auto", *formats):
            raise InputError(
                f"--{given[0].replace('_', '-')}",
                found=f"given for format {stored}",
                wanted=" or ".join(formats),
                remedy=f"Leave it out: {why}",
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
    _require_range(name, value, 0, 1, remedy="It is a share: 0.01 is one in 100.")


def _require_positive(name: str, value: int) -> None:
    _require_range(name, value, 1, math.inf, remedy="Leave it out for the default.")


def _require_range(
    name: str, value: float, low: int, high: float, *, remedy: str = "Choose a value in this range."
) -> None:
    if not low <= value <= high:
        wanted = f"at least {low}" if high == math.inf else f"{low} to {high}"
        raise InputError(f"--{name.replace('_', '-')}", found=str(value), wanted=wanted, remedy=remedy)


def _require_labeler(name: str, *, given: bool, wanted: LabelerName, chosen: LabelerName) -> None:
    if given and chosen != wanted:
        raise InputError(
            f"--{name.replace('_', '-')}",
            found=f"given for labeler {chosen}",
            wanted=f"labeler {wanted}",
            remedy=f"Leave it out, or choose --labeler {wanted}.",
        )
