"""A job with a user's own words: they travel to the workers, stay with the labels, and are told in the account."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.align.image_ids import list_image_files
from pipeline.align.story import align
from pipeline.config import Align, Explain, Label, Prune, Report, Verify
from pipeline.prune import prune
from pipeline.report.story import report
from pipeline.run import label_captions, look_before
from tests.labels import label_table
from vocab.class_names import synsets_of_class_names
from vocab.empty_reasons import EmptyReason
from vocab.errors import InputError, MismatchError
from vocab.labeler_record import LabelerRecord, record_of
from vocab.labelers import load_labeler
from vocab.store.label_shards import LabelShards
from vocab.store.label_writing import write_label_shards
from vocab.store.manifest import Manifest
from vocab.user_lexicon import lexicon_in, lexicon_of, read_lexicon
from vocab.vocabulary import Vocabulary

DOG, CAT, TOY = 2084071, 2121620, 4461879
WORDS = "pikachu = toy.n.03\ndog = cat.n.01\nvintage =\n"
CAPTIONS = (
    "a Pikachu", "two dogs", "vintage", "very nice", "Jordan Henderson", "der Hund und die Katze", "eine Katze",
)  # fmt: skip


def write(folder: Path, *, words: str = WORDS) -> Path:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / "a.tsv").write_text("caption\n" + "".join(f"{caption}\n" for caption in CAPTIONS))
    (folder / "words.txt").write_text(words)
    return folder / "words.txt"


def run(spark: Any, folder: Path, **options: Any) -> Manifest:
    return label_captions(spark, Label((str(folder / "in"),), str(folder / "labels"), **options))


def test_labels_follow_the_lexicon_and_keep_it(spark: Any, tmp_path: Path) -> None:
    manifest = run(spark, tmp_path, lexicon=write(tmp_path))
    labels = LabelShards.open(tmp_path / "labels")
    assert labels.read_all()["synsets"].to_pylist() == [[TOY], [CAT], [], [], [], [], []]
    lexicon = lexicon_in(WORDS, name="")
    assert lexicon_of(labels) == lexicon == read_lexicon(tmp_path / "labels")
    assert manifest.config["lexicon"] == {"entries": 3, "sha256": lexicon.sha256}
    assert manifest.config["lexicon"] == labels.manifest.config["lexicon"]
    assert record_of(labels).load(thing="", otherwise="").fingerprint == manifest.labeler_fingerprint
    assert str(tmp_path / "words.txt") not in manifest.to_json()


def test_empty_rows_are_counted_by_reason(spark: Any, tmp_path: Path) -> None:
    run(spark, tmp_path, lexicon=write(tmp_path))
    manifest = LabelShards.open(tmp_path / "labels").manifest
    assert manifest.empty == 5
    assert manifest.empty_reasons == {
        EmptyReason.OTHER_LANGUAGE: 2, EmptyReason.NO_NOUN: 1, EmptyReason.NAMES_ONLY: 1, EmptyReason.LEXICON: 1,
    }  # fmt: skip
    content = json.loads((tmp_path / "labels" / "manifest.json").read_text())
    assert content["empty_reasons"] == [{"other_language": 2, "no_noun": 1, "names_only": 1, "lexicon": 1}]
    assert not {"other_language", "no_noun", "lexicon"} & set(content["inputs"][0])


def test_the_page_shows_why_rows_are_empty(spark: Any, tmp_path: Path) -> None:
    run(spark, tmp_path, lexicon=write(tmp_path))
    page = tmp_path / "page.html"
    report(Report(str(tmp_path / "labels"), page, captions=(str(tmp_path / "in"),)))
    html = page.read_text()
    assert "Why rows are empty" in html
    assert "in another language" in html
    assert "left out by the lexicon" in html
    # The captions are labelled again with the same words.
    assert "<p dir=auto>two dogs</p>" in html


def test_labels_without_the_reasons_have_a_page_too(tmp_path: Path) -> None:
    write_label_shards(tmp_path / "labels", label_table(("0", "a", [])), labeler="x", fingerprint="y")
    assert LabelShards.open(tmp_path / "labels").manifest.empty_reasons == {}
    report(Report(str(tmp_path / "labels"), tmp_path / "page.html"))
    assert "Why rows are empty" not in (tmp_path / "page.html").read_text()


def test_a_row_has_the_reason_of_the_caption_that_came_nearest_to_a_label(spark: Any, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "in" / "a.tsv").unlink()
    rows = [
        {"caption": ["der Hund ist schwarz", "very nice"]},
        {"caption": ["vintage", "very nice"]},
        {"caption": ["dog"]},
    ]
    (tmp_path / "in" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = run(spark, tmp_path, lexicon=tmp_path / "words.txt")
    assert manifest.empty_reasons == {EmptyReason.NO_NOUN: 1, EmptyReason.LEXICON: 1}


def test_a_job_goes_on_with_the_same_entries_alone(spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = write(tmp_path)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.run.write_finished", killed)
        with pytest.raises(KeyboardInterrupt):
            run(spark, tmp_path, lexicon=words)
    words.write_text(WORDS + "crane =\n")
    for lexicon in (words, None):
        with pytest.raises(
            MismatchError, match=r"option lexicon: found .*wanted .*\"entries\": 3.*as when the job began"
        ):
            run(spark, tmp_path, lexicon=lexicon)
    words.write_text(f"# another comment\n{WORDS.upper().replace('TOY.N', 'toy.n').replace('CAT.N', 'cat.n')}")
    assert run(spark, tmp_path, lexicon=words).labelled == 2


def test_the_labels_keep_the_words_that_the_job_began_with(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.run import put_in_order

    words = write(tmp_path)

    def edited_meanwhile(*arguments: Any) -> Any:
        words.write_text("crane =\n")
        return put_in_order(*arguments)

    monkeypatch.setattr("pipeline.run.put_in_order", edited_meanwhile)
    run(spark, tmp_path, lexicon=words)
    assert read_lexicon(tmp_path / "labels") == lexicon_in(WORDS, name="")


def test_new_files_are_labelled_with_the_words_of_the_directory(spark: Any, tmp_path: Path) -> None:
    words = write(tmp_path)
    run(spark, tmp_path, lexicon=words)
    (tmp_path / "in" / "b.tsv").write_text("caption\nPikachus\n")
    with pytest.raises(MismatchError, match=r"option lexicon: found null; .*--lexicon takes a label directory too"):
        run(spark, tmp_path, extend=True)
    words.unlink()
    manifest = run(spark, tmp_path, extend=True, lexicon=tmp_path / "labels")
    assert (manifest.labelled, manifest.empty_reasons[EmptyReason.OTHER_LANGUAGE]) == (3, 2)
    assert lexicon_of(LabelShards.open(tmp_path / "labels")) == lexicon_in(WORDS, name="")
    (tmp_path / "in" / "c.tsv").write_text("caption\nPikachus\n")
    assert run(spark, tmp_path, extend=True, lexicon=tmp_path / "labels").labelled == 4


def test_labels_without_a_lexicon_are_not_extended_with_one(spark: Any, tmp_path: Path) -> None:
    words = write(tmp_path)
    run(spark, tmp_path)
    assert "lexicon" not in LabelShards.open(tmp_path / "labels").manifest.config
    assert not (tmp_path / "labels" / "lexicon.parquet").exists()
    (tmp_path / "in" / "b.tsv").write_text("caption\nPikachus\n")
    with pytest.raises(MismatchError, match="option lexicon"):
        run(spark, tmp_path, extend=True, lexicon=words)
    with pytest.raises(InputError, match="labels made without a lexicon"):
        run(spark, tmp_path, extend=True, lexicon=tmp_path / "labels")


def test_a_lexicon_that_cannot_be_read_ends_the_command_before_spark_starts(tmp_path: Path) -> None:
    words = write(tmp_path, words="dog = dgo.n.01\n")
    with pytest.raises(InputError, match=r"words\.txt, line 1: found 'dgo\.n\.01'"):
        look_before(Label((str(tmp_path / "in"),), str(tmp_path / "labels"), lexicon=words))
    with pytest.raises(InputError, match=r"--lexicon: found given for labeler reference"):
        Label((str(tmp_path / "in"),), str(tmp_path / "labels"), lexicon=words, labeler="reference")


def test_a_job_in_which_the_lexicon_leaves_nothing_says_so(
    spark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = write(tmp_path, words="dog =\npikachu =\nvintage =\n")
    (tmp_path / "in" / "a.tsv").write_text("caption\na dog\npikachu\nvery nice\n")
    found = r"0 of 3 rows with a label; .*; left empty: 1 without a noun, 2 left out by the lexicon; .*Check --lexicon"
    with pytest.raises(InputError, match=found):
        run(spark, tmp_path, lexicon=words)
    run(spark, tmp_path, lexicon=words, allow_unlabelled=True)
    assert "0 of 3 rows with a label" in capsys.readouterr().err


def test_the_command_ends_with_the_account(tmp_path: Path) -> None:
    from pipeline.__main__ import why_empty

    account: dict[str, Any] = {"files": (), "labeler": "x", "labeler_fingerprint": "y", "wordnet": "3.0"}
    from vocab.store.manifest import InputFile

    file = InputFile("a", 1, "", rows=5, labelled=1, empty=4, no_noun=3, other_language=1)
    some = Manifest(**account, rows=5, labelled=1, empty=4, rejected=0, inputs=(file,))
    assert why_empty(some) == "empty: 3 without a noun, 1 in another language\n"
    none = Manifest(**account, rows=4, labelled=0, empty=4, rejected=0, inputs=(file,))
    assert why_empty(none) == "nothing was labelled: 3 without a noun, 1 in another language\n"
    assert why_empty(Manifest(**account, rows=2, labelled=0, empty=0, rejected=2)) == (
        "nothing was labelled: every row was rejected\n"
    )
    assert why_empty(Manifest(**account, rows=2, labelled=2, empty=0, rejected=0)) == ""


def test_aligned_labels_keep_the_lexicon(spark: Any, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = write(tmp_path)
    (tmp_path / "in" / "a.tsv").write_text("caption\tuid\na Pikachu\tu1\n")
    run(spark, tmp_path, lexicon=words, key_column="uid")
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "00000.tar").touch()
    pq.write_table(pa.table({"uid": ["u1"], "key": ["k"], "status": ["success"]}), tmp_path / "tars" / "00000.parquet")
    options = Align(str(tmp_path / "labels"), (str(tmp_path / "tars"),), "uid", str(tmp_path / "aligned"))
    align(spark, LabelShards.open(tmp_path / "labels"), list_image_files(options.images, "uid"), options)
    aligned = LabelShards.open(tmp_path / "aligned")
    assert record_of(aligned) == record_of(LabelShards.open(tmp_path / "labels"))
    assert record_of(aligned).lexicon == lexicon_in(WORDS, name="")


def test_a_vocabulary_carries_the_lexicon_to_class_names(spark: Any, tmp_path: Path) -> None:
    run(spark, tmp_path, lexicon=write(tmp_path))
    prune(Prune((str(tmp_path / "labels"),), tmp_path / "v.parquet", min_count=1))
    vocabulary = Vocabulary.load(tmp_path / "v.parquet")
    record = vocabulary.labeler
    assert record is not None
    assert record == record_of(LabelShards.open(tmp_path / "labels"))
    label = record.load_for_names().label
    names = ["pikachu", "Pikachus", "dog", "vintage", "tench"]
    with_words = synsets_of_class_names(names, label=label, lexicon=record.lexicon)
    without = synsets_of_class_names(names)
    assert with_words[:3] == [[TOY], [TOY], [CAT]]
    assert with_words[3:] == without[3:]
    assert without[2] == [DOG]


def test_verify_and_explain_take_a_label_directory(spark: Any, tmp_path: Path) -> None:
    from pipeline.explain import explain

    run(spark, tmp_path, lexicon=write(tmp_path))
    options = Explain(("a pikachu",), lexicon=tmp_path / "labels")
    assert options.lexicon is not None
    assert "toy.n.03: by the lexicon" in explain(options.captions, read_lexicon(options.lexicon))
    assert Verify((str(tmp_path / "in"),), lexicon=str(tmp_path / "labels")).lexicon == tmp_path / "labels"


def test_names_are_read_with_our_own_labeler_where_another_program_made_the_labels(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert LabelerRecord("theirs", "f").load_for_names() is load_labeler()
    assert "the labels were made by another, 'theirs'" in capsys.readouterr().err
    assert LabelerRecord("catlip", "f" * 64).load_for_names() is load_labeler()
    assert "the labels were made with ffffffffffff, those of another release" in capsys.readouterr().err
    assert LabelerRecord("catlip", load_labeler().fingerprint).load_for_names() is load_labeler()
    assert capsys.readouterr().err == ""
