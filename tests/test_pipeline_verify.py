"""Two labelers on a sample of captions: the sample, the figures, and what is printed."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.caption_sample import CaptionSample, draw_captions
from pipeline.config import Format, Label, Verify
from pipeline.reading.captions import reading_of
from pipeline.reading.inputs import list_inputs
from pipeline.verify import Example, agreement, run_verify, summary_lines
from vocab.errors import InputError, MissingRequirementError, OutputExistsError

DOG, CAT, SOFA = 2084071, 2121620, 4256520
DEBIAN_WORDNET = Path("/usr/share/wordnet")


def draw(
    *places: Path,
    format_: Format = "auto",
    names: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
    rows: int = 10,
    seed: int = 0,
) -> CaptionSample:
    inputs = list_inputs(tuple(map(str, places)), format_)
    reading = reading_of(Label((), "", inputs.format, names, columns=columns), inputs)
    return draw_captions(inputs, reading, rows=rows, seed=seed)


def test_every_format_gives_its_captions(tmp_path: Path) -> None:
    table = {"TEXT": ["a", None, "b"], "more": [["c", None], None, []], "raw": [b"d", b"\xff", None]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert sorted(draw(tmp_path / "a.parquet", names=("TEXT", "more")).texts) == ["a", "b", "c"]
    raw = draw(tmp_path / "a.parquet", names=("raw",))
    assert (raw.texts, raw.unusable, raw.rows, raw.rows_read) == (["d"], 1, 3, 3)

    (tmp_path / "a.tsv").write_bytes(b"\xef\xbb\xbfcaption\turl\r\na dog\tx\r\n\tx\r\nb\rc\tx\r\n\xff\tx\r\n")
    tsv = draw(tmp_path / "a.tsv")
    assert (sorted(tsv.texts), tsv.unusable, tsv.rows) == (["a dog", "b\rc"], 1, 4)

    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(b"x\tdog\ny\n"))
    assert draw(tmp_path / "b.tsv.gz", columns=("url", "caption")).texts == ["dog"]

    (tmp_path / "a.csv").write_bytes(b'id,caption\n7,"a dog,\na ""cat"""\n8,\xff\n')
    table_csv = draw(tmp_path / "a.csv")
    assert (table_csv.texts, table_csv.unusable) == (['a dog,\na "cat"'], 1)

    lines = [b'{"caption": ["dogs", 3, "cat"]}', b"{broken", b"[1]", b"", b'{"caption": "\\ud800"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    jsonl = draw(tmp_path / "a.jsonl")
    assert (sorted(jsonl.texts), jsonl.unusable, jsonl.rows) == (["cat", "dogs"], 1, 4)

    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, content in (("1.jpg", b""), ("1.txt", b"a dog"), ("2.jpg", b"")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    samples = draw(tmp_path / "0.tar")
    assert (samples.texts, samples.rows) == (["a dog"], 2)


def test_of_img2dataset_only_what_was_downloaded_counts(tmp_path: Path) -> None:
    sidecar = {"key": ["0", "1"], "caption": ["dog", "cat"], "status": ["success", "failed_to_download"]}
    pq.write_table(pa.table(sidecar), tmp_path / "00000.parquet")
    (tmp_path / "00000.tar").write_bytes(b"")
    assert draw(tmp_path).texts == ["dog"]


def test_the_same_seed_gives_the_same_sample_and_every_row_the_same_chance(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("caption\n" + "\n".join(map(str, range(20))) + "\n")
    drawn = [draw(tmp_path / "a.tsv", rows=5, seed=seed).texts for seed in range(400)]
    assert draw(tmp_path / "a.tsv", rows=5, seed=7).texts == drawn[7]
    counts = Counter(caption for captions in drawn for caption in captions)
    assert len(counts) == 20
    # 100 each, with a deviation of 8.7; the seeds are fixed, so this never fails by chance.
    assert all(70 < count < 130 for count in counts.values())


def test_of_many_row_groups_only_some_are_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        captions = [f"{name}{number}" for number in range(1000)]
        pq.write_table(pa.table({"caption": captions}), tmp_path / f"{name}.parquet", row_group_size=20)
    drawn = draw(tmp_path, rows=10)
    assert (len(drawn.texts), drawn.rows_read) == (10, 40)
    assert {caption[0] for caption in drawn.texts} == {"a", "b"}
    everything = draw(tmp_path, rows=5000)
    assert (len(set(everything.texts)), everything.rows_read) == (2000, 2000)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"text\tb\nx\ty\n", r"a\.tsv: found columns text, b; wanted a column 'caption'"),
        ("a.jsonl", b'{"caption": null}\n', r"a\.jsonl: found no caption in 1 rows"),
        ("a.parquet", b"<html>", r"a\.parquet: found a file that cannot be read"),
        ("a.tar", b"<html>" * 1000, r"a\.tar: found a file that cannot be read \(invalid header\)"),
        (
            "a.tsv.gz",
            gzip.compress(b"caption\n" + bytes(range(256)) * 1000, mtime=0)[:-600],
            "found a file that cannot be read",
        ),
    ],
)
def test_captions_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        draw(tmp_path / name)


def test_a_column_of_numbers_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": [[1]]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column 'caption': found type list"):
        draw(tmp_path / "a.parquet")


def test_agreement_counts_what_is_equal_lost_and_gained() -> None:
    first = [[DOG], [DOG, CAT], [], [CAT]]
    second = [[DOG], [DOG, SOFA], [], [SOFA]]
    found = agreement(["a", "b", "c", "d"], first, second, examples=1, seed=0)
    assert (found.captions, found.equal, found.jaccard) == (4, 2, (1 + 1 / 3 + 1 + 0) / 4)
    assert (found.labels, found.without) == ((1.0, 1.0), (1, 1))
    assert (found.both, found.only_first, found.only_second) == (2, 2, 2)
    assert (found.lost, found.gained) == (((CAT, 2),), ((SOFA, 2),))
    assert found.examples in ((Example("b", (DOG,), (CAT,), (SOFA,)),), (Example("d", (), (CAT,), (SOFA,)),))


def test_what_is_printed_names_synsets_and_disarms_captions() -> None:
    found = agreement(["a \x1b[31mdog\n"], [[DOG]], [[CAT, SOFA]], examples=5, seed=0)
    lines = summary_lines(CaptionSample(["a"], rows=1, rows_read=9, unusable=2), found, ("catlip", "reference"))
    assert lines == [
        "1 captions of 1 rows, drawn from 9 that were read; 2 more are not UTF-8 or too long",
        "",
        "labels per caption  captions without  labels only it gives  labeler",
        "              1.00                 0                     1  catlip",
        "              2.00                 0                     2  reference",
        "",
        "equal labels       0.0% of captions",
        "mean Jaccard       0.000 (labels in common / labels of either)",
        "labels in common   0.0% of the 3 that either gives",
        "",
        "only catlip gives, most often:",
        "captions       wnid  synset",
        "       1  n02084071  dog.n.01",
        "",
        "only reference gives, most often:",
        "captions       wnid  synset",
        "       1  n02121620  cat.n.01",
        "       1  n04256520  sofa.n.01",
        "",
        "captions whose labels differ, for example:",
        "",
        "a \\x1b[31mdog\\n",
        "    only catlip     dog.n.01",
        "    only reference  cat.n.01, sofa.n.01",
    ]


def test_the_verb_compares_our_labeler_with_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nltk", reason="needs NLTK: pip install nltk ftfy")
    pytest.importorskip("ftfy", reason="needs ftfy: pip install nltk ftfy")
    if not (DEBIAN_WORDNET / "index.sense").is_file():
        pytest.skip("needs WordNet's files: apt-get install wordnet-base wordnet-sense-index")
    (tmp_path / "a.tsv").write_text("caption\na dog\na couch\n")
    options = Verify((str(tmp_path / "a.tsv"),), out=tmp_path / "v.json", wordnet=DEBIAN_WORDNET, punkt="untrained")
    run_verify(options)
    said = capsys.readouterr().out
    assert "equal labels       50.0% of captions" in said
    assert "a couch\n    only catlip  " in said
    report = json.loads((tmp_path / "v.json").read_text())
    assert report["agreement"]["lost"] == [["n04256520", 1]]
    assert report["agreement"]["examples"][0]["caption"] == "a couch"
    assert [labeler["name"] for labeler in report["labelers"]] == ["catlip", "reference"]
    with pytest.raises(OutputExistsError):
        run_verify(options)


def test_bad_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--labelers: found catlip twice"):
        Verify(("a.tsv",), labelers=("catlip", "catlip"))
    with pytest.raises(InputError, match="--sample: found 0"):
        Verify(("a.tsv",), sample=0)
    with pytest.raises(InputError, match="--examples: found -1"):
        Verify(("a.tsv",), examples=-1)
    with pytest.raises(MissingRequirementError, match=r"en_core_web_zz|pip install"):
        run_verify(Verify(("a.tsv",), labelers=("catlip", "spacy"), spacy_model="en_core_web_zz"))


def test_real_captions_of_three_formats_are_drawn(real_data: Path) -> None:
    captions = real_data / "captions"
    options: list[dict[str, Any]] = [
        {"names": ("TEXT",)},
        {"columns": ("caption", "url")},
        {},
    ]
    names = ("img2dataset_test_10000.parquet", "cc3m_validation.tsv", "coco_val2017_captions.jsonl.gz")
    drawn = [draw(captions / name, rows=100, **option) for name, option in zip(names, options, strict=True)]
    assert [(one.rows, one.rows_read) for one in drawn] == [(100, 10_000), (100, 15_840), (100, 25_014)]
