"""The arithmetic of the label benchmarks, their texts and their readers; no speed is tested."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.labelling.equality import LONGEST, random_texts
from benchmarks.labelling.nouns import (
    Match,
    covered,
    is_gold_noun,
    is_known_noun,
    is_taken_off,
    match,
    measure_labels,
    measure_nouns,
)
from benchmarks.labelling.sources import evenly, is_short, read_sources, read_tsv, texts_in
from benchmarks.labels import Seconds, batches_of, lexicon_of, median_cpu, median_wall, rates, total_words
from vocab import labeler, wordnet
from vocab.errors import FormatError, InputError
from vocab.fit.treebank import GoldToken


def gold(*tokens: str) -> list[GoldToken]:
    """ "dogs/dog/NOUN" -> a token followed by a space."""
    return [GoldToken(*token.split("/"), space_after=True) for token in tokens]


def test_a_word_covers_every_token_that_it_overlaps() -> None:
    first, last = np.array([0, 2, 2]), np.array([0, 3, 4])
    assert covered(first, last, 7).tolist() == [True, False, True, True, True, False, False]


def test_no_words_cover_nothing() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert covered(none, none, 3).tolist() == [False, False, False]


def test_the_last_token_is_covered() -> None:
    assert covered(np.array([2]), np.array([2]), 3).tolist() == [False, False, True]


def test_f1_is_the_harmonic_mean() -> None:
    counts = match(np.array([True, True, True, False]), np.array([True, False, True, True]))
    assert counts == Match(found=3, wanted=3, both=2)
    assert (counts.precision, counts.recall, counts.f1) == (2 / 3, 2 / 3, 2 / 3)
    uneven = Match(found=1, wanted=4, both=1)
    assert (uneven.precision, uneven.recall, uneven.f1) == (1.0, 0.25, 0.4)


def test_nothing_found_and_nothing_wanted_give_zero() -> None:
    empty = Match(found=0, wanted=0, both=0)
    assert (empty.precision, empty.recall, empty.f1) == (0.0, 0.0, 0.0)


def test_gold_nouns_are_common_nouns_and_names() -> None:
    tokens = gold("Rex/Rex/PROPN", "sees/see/VERB", "dogs/dog/NOUN", "two/two/NUM")
    assert is_gold_noun(tokens).tolist() == [True, False, True, False]


def test_addresses_and_file_names_are_taken_off() -> None:
    tokens = gold("dog.com/dog.com/PROPN", "www.cats.org/www.cats.org/X", "me@dog.org/me@dog.org/X", "dogs/dog/NOUN")
    assert is_taken_off(tokens).tolist() == [True, True, True, False]


def test_wordnet_knows_a_noun_by_form_lemma_or_singular() -> None:
    tokens = gold(
        "DOG/_/NOUN", "Geese/_/NOUN", "boxes/_/NOUN", "teeeth/tooth/NOUN", "zorbs/zorb/NOUN", "Abbas/Abbas/PROPN"
    )
    assert is_known_noun(tokens, wordnet.load().lemmas).tolist() == [True, True, True, True, False, False]


def test_a_noun_of_several_words_counts_by_its_last_word_and_its_gold_nouns() -> None:
    sentence = gold("a/a/DET", "dog/dog/NOUN", "eats/eat/VERB", "a/a/DET", "hot/hot/ADJ", "dog/dog/NOUN")
    result = measure_labels(labeler.load(), [sentence])
    assert (result["label_precision"], result["label_recall"]) == (1.0, 1.0)
    assert (result["label_precision_strict"], result["label_recall_strict"]) == (0.6667, 1.0)


def test_addresses_count_as_nouns_and_without_them_too() -> None:
    sentence = gold("the/the/DET", "dog/dog/NOUN", "is/be/AUX", "on/on/ADP", "dog.com/dog.com/PROPN")
    result = measure_nouns(labeler.load(), [sentence])
    assert (result["noun_f1"], result["noun_f1_without_addresses"]) == (1.0, 0.6667)
    assert (result["tokens"], result["gold_nouns"]) == (5, 2)


def test_random_texts_are_the_same_for_the_same_seed() -> None:
    captions = ["a dog on a couch", "Caf&eacute; owner"]
    assert random_texts(captions, 50, seed=3) == random_texts(captions, 50, seed=3)
    assert random_texts(captions, 50, seed=3) != random_texts(captions, 50, seed=4)


def test_random_texts_are_valid_and_of_every_length() -> None:
    texts = random_texts(["a dog on a couch"], 2_000, seed=1)
    lengths = {len(text) for text in texts}
    assert (min(lengths), max(lengths)) == (0, LONGEST)
    assert pa.array(texts, pa.string()).to_pylist() == texts
    everything = "".join(texts)
    for sign in ("couch", "&amp;", "%20", "é", "犬", "🐶", "\x00", "\u200b", "'s"):
        assert sign in everything


def write_sources(data: Path) -> None:
    """The six corpora in miniature."""
    folder = data / "captions"
    folder.mkdir(parents=True)
    (folder / "cc3m_validation.tsv").write_text(
        "a dog\thttp://a.example\n\tno caption\na “cat”\u2028asleep\tb\n", "utf-8"
    )
    pq.write_table(
        pa.table({"TEXT": ["web", None, " "], "URL": ["a", "b", "c"]}), folder / "img2dataset_test_10000.parquet"
    )
    rows = {
        "coco_val2017_captions.jsonl.gz": [{"caption": "coco", "image_id": 1}],
        "concadia_test.jsonl.gz": [{"caption": "one", "description": "two"}, {"caption": None, "description": "three"}],
        "imageinwords.jsonl.gz": [{"caption": ["four", ["five", None]]}],
    }
    for file, records in rows.items():
        with gzip.open(folder / file, "wt", encoding="utf-8") as lines:
            lines.writelines(json.dumps(record) + "\n" for record in records)
    (folder / "digitalgov_alt_cc0.jsonl").write_text('{"alt": "gov"}\n{"alt": ""}\n')


def test_sources_are_read_in_order_without_nulls_and_blanks(tmp_path: Path) -> None:
    write_sources(tmp_path)
    assert read_sources(tmp_path) == {
        "cc3m": ["a dog", "a “cat”\u2028asleep"],
        "web": ["web"],
        "coco": ["coco"],
        "wikipedia": ["one", "two", "three"],
        "government": ["gov"],
        "paragraphs": ["four", "five"],
    }


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"captions: found no such folder.*CATLIP_DATA"):
        read_sources(tmp_path)


def test_a_missing_corpus_is_said(tmp_path: Path) -> None:
    write_sources(tmp_path)
    (tmp_path / "captions" / "digitalgov_alt_cc0.jsonl").unlink()
    with pytest.raises(InputError, match=r"digitalgov_alt_cc0.jsonl: found no such file"):
        read_sources(tmp_path)


def test_a_row_without_the_column_is_said(tmp_path: Path) -> None:
    write_sources(tmp_path)
    (tmp_path / "captions" / "digitalgov_alt_cc0.jsonl").write_text('{"alt": "gov"}\n{"text": "gov"}\n')
    with pytest.raises(FormatError, match=r"digitalgov_alt_cc0.jsonl:2: found keys text; wanted keys alt"):
        read_sources(tmp_path)


def test_a_field_that_is_no_text_is_said() -> None:
    with pytest.raises(FormatError, match="found 3; wanted a text"):
        list(texts_in(["a", 3]))


def test_a_tab_parted_line_gives_its_first_column(tmp_path: Path) -> None:
    file = tmp_path / "captions.tsv"
    file.write_bytes(b"a dog\turl\r\nno tab\r\n")
    assert read_tsv(file) == ["a dog", "no tab"]


def test_a_short_text_has_at_most_thirty_words() -> None:
    assert is_short("dog " * 30)
    assert not is_short("dog " * 31)


def test_a_sample_is_spread_evenly() -> None:
    assert evenly(list(range(10)), 4) == [0, 2, 5, 7]
    assert evenly([1, 2], 4) == [1, 2]


def test_batches_hold_every_text_once() -> None:
    assert [batch.to_pylist() for batch in batches_of(["a", "b", "c"], 2)] == [["a", "b"], ["c"]]


def test_rates_are_medians(capsys: pytest.CaptureFixture[str]) -> None:
    passes = [Seconds(1.0, 0.5), Seconds(4.0, 1.0), Seconds(2.0, 2.0)]
    assert (median_wall(passes), median_cpu(passes)) == (2.0, 1.0)
    assert rates("captions", 1_000, passes) == {
        "captions_per_second_per_core": 500,
        "captions_per_second_per_core_best": 1_000,
        "captions_per_second_per_core_cpu": 1_000,
    }
    assert "1,000 captions; captions/s of each pass: 1,000, 250, 500" in capsys.readouterr().out


def test_words_are_parted_by_white_space() -> None:
    assert total_words(["a dog", "", "two  dogs\tasleep"]) == 5


def test_a_drawn_lexicon_has_as_many_entries_as_asked_for_of_words_that_are_used_and_others() -> None:
    texts = [f"{a} {b} dog" for a in ("red", "old", "wet", "big") for b in ("cat", "hat", "bat", "house")]
    words = {words for words, _ in lexicon_of(texts, 12).entries}
    assert len(words) == 12
    assert {"zqaq", "zqbq", "zqcq"} < words
    assert sum(any(each in text for text in texts) for each in words) == 9
