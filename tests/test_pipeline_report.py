"""The report: one page that shows a label directory, harmless whatever the captions hold."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.config import Report
from pipeline.report.story import report
from tests.labels import HOSTILE_CAPTIONS, HOSTILE_NAME, HOSTILE_REASON, hostile_labels, label_table, small_labels
from tests.processes import called, import_without
from vocab.errors import CatlipError, FormatError, InputError, OutputExistsError
from vocab.pages.page import brief
from vocab.store.label_shards import LabelShards
from vocab.store.label_writing import write_label_shards

PUPPY = 1322604


def page_of(folder: Path, labels: Path, **options: object) -> str:
    options = {"min_count": 30} | options
    report(Report(str(labels), folder / "report.html", **options))  # type: ignore[arg-type]
    return (folder / "report.html").read_text(encoding="utf-8")


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def section_of(html: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">(.*?)</section>', html, re.DOTALL)
    assert found is not None
    return found[1]


class Elements(HTMLParser):
    """Every element and attribute, as a browser's parser finds them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_the_account_adds_up_and_names_reasons_and_files(tmp_path: Path) -> None:
    labels, source = hostile_labels(tmp_path, ("a dog", "a cat", "of the"))
    account = text_of(section_of(page_of(tmp_path, labels), "account"))
    assert "labelled 2 50.0% at least one synset" in account
    assert "empty 1 25.0%" in account
    assert "rejected 1 25.0%" in account
    assert "together 4 100.0% rows read" in account
    assert "1 of 1 file with a rejected row; 2 input files in all." in account
    assert "1 1 100.0%" in account
    assert str(source) not in account


def test_thresholds_say_what_is_kept_and_what_is_left_without_a_label(tmp_path: Path) -> None:
    html = page_of(tmp_path, small_labels(tmp_path))
    cells = re.findall(r"<td class=number>([^<]*)</td>", section_of(html, "thresholds"))
    assert [cells[start : start + 6] for start in range(0, len(cells), 6)] == [
        ["1", "4", "1", "1.1%", "1.32", "100.0%"],
        ["5", "3", "2", "2.2%", "1.30", "99.2%"],
        ["10", "3", "2", "2.2%", "1.30", "99.2%"],
        ["30", "3", "2", "2.2%", "1.30", "99.2%"],
        ["50", "1", "32", "34.8%", "0.65", "49.6%"],
    ]


def test_the_head_is_listed_with_names_words_and_counts(tmp_path: Path) -> None:
    head = text_of(section_of(page_of(tmp_path, small_labels(tmp_path)), "head"))
    assert "1 person.n.01 n00007846 person, individual, someone, somebody, mortal, soul yes 60" in head
    assert "2 dog.n.01 n02084071 dog, domestic dog, Canis familiaris yes 30" in head


def test_the_page_says_what_a_picture_can_show(tmp_path: Path) -> None:
    rows = label_table(("0", "a", [2084071, 13303315]), ("0", "b", [2084071]), ("0", "c", [2084071]))
    write_label_shards(tmp_path / "labels", rows, labeler="catlip", fingerprint="f" * 64)
    html = page_of(tmp_path, tmp_path / "labels")
    shown = text_of(section_of(html, "shown"))
    assert "a picture can show it 1 0 - 3 75.0%" in shown
    assert "no picture can show it 1 0 - 1 25.0%" in shown
    assert "2 price.n.02 n13303315 price, terms, damage no 1" in text_of(section_of(html, "head"))


def test_without_captions_the_page_says_why_there_are_none(tmp_path: Path) -> None:
    head = section_of(page_of(tmp_path, small_labels(tmp_path)), "head")
    assert "No example captions: a label directory holds none." in head
    assert "<th>captions</th>" not in head


def test_captions_stand_beside_their_synsets_and_the_page_says_how_they_were_chosen(tmp_path: Path) -> None:
    labels, source = hostile_labels(tmp_path, ("a dog", "two dogs", "dogs", "a dog outside", "of the", "a cat"))
    head = section_of(page_of(tmp_path, labels, captions=(str(source),), examples=2), "head")
    assert re.search(r"dog\.n\.01.*?<td class=texts><p dir=auto>a dog</p><p dir=auto>a dog outside</p></td>", head)
    assert "the first rows of 1 of 1 file given" in text_of(head)
    assert "6 rows, 6 different captions" in text_of(head)


def test_the_tail_shows_synsets_seen_once_and_seldom(tmp_path: Path) -> None:
    tail = text_of(section_of(page_of(tmp_path, small_labels(tmp_path)), "tail"))
    assert "1 to 9 1 25.0% 0.8%" in tail
    assert "10 to 99 3 75.0% 99.2%" in tail
    assert "Seen once: 1 of 1, spread evenly over WordNet's order" in tail
    assert "cat.n.01 n02121620 cat, true cat yes 1" in tail
    assert "Seen 2 to 10 times: 0 of 0" in tail


def test_classes_are_found_at_each_similarity(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("n02084071\nn02121620\nn01322604\n")
    coverage = text_of(
        section_of(page_of(tmp_path, small_labels(tmp_path), classes=tmp_path / "classes.txt"), "coverage")
    )
    assert "3 classes in" in coverage
    assert "1.0 2 1" in coverage
    assert "2 of 3 classes occur themselves" in coverage
    assert "1 of 3 classes that no row holds puppy" in coverage


def test_without_classes_the_page_says_how_to_give_them(tmp_path: Path) -> None:
    assert "<code>--classes</code>" in section_of(page_of(tmp_path, small_labels(tmp_path)), "coverage")


def test_strangers_text_cannot_carry_markup(tmp_path: Path) -> None:
    labels, source = hostile_labels(tmp_path)
    html = page_of(tmp_path, labels, captions=(str(source),), examples=9)
    elements = Elements(html)
    assert not elements.tags & {"script", "img", "iframe", "object", "embed", "link", "base", "form"}
    assert not [name for name in elements.attributes if name.startswith("on") or name in ("style", "srcset")]
    assert (html.count("</style>"), html.count("</title><style>")) == (1, 1)
    for caption in HOSTILE_CAPTIONS[:3]:
        assert brief(caption) in html
    assert brief(HOSTILE_NAME) in html
    assert brief(HOSTILE_REASON) in html
    assert "gnp\\u202egpj.exe \\x00\\x07\\x1b[31m\\x85" in html
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    assert "<p dir=auto>שלום the dog is on the couch in the house</p>" in html


def test_nothing_is_fetched_and_scripts_are_forbidden(tmp_path: Path) -> None:
    html = page_of(tmp_path, small_labels(tmp_path))
    assert all(link.startswith("#") for link in re.findall(r'(?:src|href)="?([^" >]+)', html))
    assert not re.search(r"https?:|url\(|@import", html)
    assert "default-src 'none'; script-src 'none'" in html
    assert html.index("Content-Security-Policy") < html.index("<title>")


def test_text_is_shown_in_full_up_to_a_length_and_hidden_characters_written_out() -> None:
    assert brief("x" * 240) == "x" * 240
    assert brief("x" * 241) == "x" * 239 + "…"
    assert brief("\U0001f468\u200d\U0001f469 \ud800 \u2028 <") == "\U0001f468\u200d\U0001f469 \\ud800 \\u2028 &lt;"


def test_the_same_labels_give_the_same_page(tmp_path: Path) -> None:
    labels, source = hostile_labels(tmp_path)
    first = page_of(tmp_path, labels, captions=(str(source),))
    (tmp_path / "report.html").unlink()
    assert page_of(tmp_path, labels, captions=(str(source),)) == first


def test_rows_without_any_synset_give_empty_sections(tmp_path: Path) -> None:
    rows = label_table(("0", "a", []), ("0", "b", []))
    write_label_shards(tmp_path / "labels", rows, labeler="catlip", fingerprint="f" * 64)
    (tmp_path / "classes.txt").write_text("n02084071\n")
    html = page_of(tmp_path, tmp_path / "labels", classes=tmp_path / "classes.txt")
    for name in ("frequency", "thresholds", "shown", "treemap", "head", "tail"):
        assert "No row holds a synset." in section_of(html, name)
    assert "0 of 1 classes occur themselves" in section_of(html, "coverage")


def test_labels_without_a_row_give_a_page(tmp_path: Path) -> None:
    write_label_shards(tmp_path / "labels", label_table(), labeler="catlip", fingerprint="f" * 64)
    html = page_of(tmp_path, tmp_path / "labels")
    assert "together 0 - rows read" in text_of(section_of(html, "account"))
    assert "No row holds a synset." in section_of(html, "lengths")


def test_a_page_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"report\.html: found a file; wanted a new name"):
        page_of(tmp_path, small_labels(tmp_path))
    assert (tmp_path / "report.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ("unfinished", FormatError, r"found no manifest\.json; wanted a finished label directory"),
        ("truncated", FormatError, "found 10 bytes"),
        ("classes", InputError, "found 'dog' in line 1"),
        ("captions", InputError, "found nothing there"),
    ],
)
def test_what_cannot_be_shown_is_named_and_leaves_no_page(
    tmp_path: Path, change: str, kind: type[CatlipError], message: str
) -> None:
    labels, source = hostile_labels(tmp_path)
    options: dict[str, object] = {}
    if change == "unfinished":
        (labels / "manifest.json").unlink()
    elif change == "truncated":
        (labels / "part-00000.parquet").write_bytes(bytes(10))
    elif change == "classes":
        (tmp_path / "classes.txt").write_text("dog\n")
        options["classes"] = tmp_path / "classes.txt"
    else:
        options["captions"] = (str(source) + ".gone",)
    with pytest.raises(kind, match=message):
        page_of(tmp_path, labels, **options)
    assert not [path for path in tmp_path.iterdir() if "html" in path.name]


def test_a_page_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"/file: found a file; wanted a folder for .*/deep/report\.html"):
        report(Report(str(small_labels(tmp_path)), tmp_path / "file" / "deep" / "report.html"))


def test_the_verb_says_what_it_wrote_and_its_help_what_it_wants(tmp_path: Path) -> None:
    result = called("report", "--labels", small_labels(tmp_path), "--out", tmp_path / "new" / "report.html")
    assert result.stdout == f"{tmp_path}/new/report.html: 4 synsets in 92 captions\n", result.stderr
    again = called("report", "--labels", tmp_path / "labels", "--out", tmp_path / "new" / "report.html")
    assert again.returncode == 2
    assert "found a file; wanted a new name" in again.stderr
    assert called("report", "--labels", "x", "--out", "y", "--examples", 0).stderr.startswith(
        "error: --examples: found 0"
    )


def test_a_report_needs_no_spark(tmp_path: Path) -> None:
    labels, source = hostile_labels(tmp_path)
    result = import_without(
        {"pyspark", "py4j", "torch", "pandas", "PIL", "matplotlib"},
        "from pathlib import Path; from pipeline.config import Report; from pipeline.report.story import report\n"
        f"report(Report({str(labels)!r}, Path({str(tmp_path / 'r.html')!r}), captions=({str(source)!r},)))\n"
        "print('ok')",
    )
    assert result.stdout.strip() == "ok", result.stderr


def test_real_captions_give_a_page(tmp_path: Path, real_data: Path) -> None:
    source = real_data / "captions" / "cc3m_validation.tsv"
    with source.open(encoding="utf-8") as lines:
        captions = tuple(line.split("\t")[0] for line in lines)[:2000]
    labels, sample = hostile_labels(tmp_path, captions)
    html = page_of(tmp_path, labels, captions=(str(sample),), classes=real_data / "lists" / "imagenet_synsets.txt")
    assert "2,000 rows" in section_of(html, "head")
    assert section_of(html, "head").count("<td class=texts>") == 200
    assert "1,000 classes in" in section_of(html, "coverage")
    assert LabelShards.open(labels).manifest.rows == 2001
