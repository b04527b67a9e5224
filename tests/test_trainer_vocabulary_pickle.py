"""The released vocabulary: read as pickle would read it, and no pickle of another kind is read at all."""

from __future__ import annotations

import contextlib
import pickle
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.released_weights import COUNTS, Code
from tests.synsets import CAR, CAT, DOG
from trainer.weights.vocabulary_pickle import read_vocabulary
from vocab import wordnet
from vocab.errors import CatlipError, InputError, MismatchError
from vocab.vocabulary import Vocabulary

CLASSES = 3


def vocabulary_of(path: Path, content: bytes, classes: int = CLASSES) -> Vocabulary:
    (path / "v.pkl").write_bytes(content)
    return read_vocabulary(path / "v.pkl", classes=classes)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dump", [pickle.dumps, pickle._dumps])  # type: ignore[attr-defined]
def test_the_first_synsets_are_the_classes_in_the_file_s_order(tmp_path: Path, protocol: int, dump: Any) -> None:
    found = vocabulary_of(tmp_path, dump(COUNTS, protocol))
    # Dog and cat have the same count: the file's order stands, where counting anew would sort them.
    assert found.synsets.tolist() == [DOG, CAT, CAR]
    assert found.captions.tolist() == [90, 90, 7]
    assert (found.rows, found.min_count) == (0, 7)


def test_the_ten_synsets_that_corenet_names_are_nouns_of_wordnet(tmp_path: Path) -> None:
    # The head of the released file, as apple/corenet's documentation has it; offsets without their zeros.
    keys = "5928118 13333833 4960277 7947958 9638875 928077 7996689 10787470 5938976 8559508".split()
    counts = {f"n{key}": 100 - place for place, key in enumerate(keys)}
    assert vocabulary_of(tmp_path, pickle.dumps(counts), 10).names[:3] == ["image.n.01", "stock.n.01", "black.n.01"]


@settings(max_examples=30)
@given(st.integers(1, 1000), st.integers(0, pickle.HIGHEST_PROTOCOL), st.randoms(use_true_random=False))
def test_any_flat_dict_reads_as_pickle_reads_it(
    tmp_path_factory: pytest.TempPathFactory, size: int, protocol: int, random: Any
) -> None:
    synsets = random.sample(wordnet.load().synsets.tolist(), size)
    counts = sorted((random.randrange(1, 1 << random.randrange(1, 63)) for _ in synsets), reverse=True)
    content = pickle.dumps({f"n{synset}": count for synset, count in zip(synsets, counts, strict=True)}, protocol)
    found = vocabulary_of(tmp_path_factory.getbasetemp(), content, size)
    assert dict(zip(found.synsets.tolist(), found.captions.tolist(), strict=True)) == {
        int(key[1:]): count
        for key, count in pickle.loads(content).items()  # noqa: S301 - our own
    }


NESTED: dict[str, Any] = {"n2084071": {"n2084071": 1}}
RECURSIVE: dict[str, Any] = {}
RECURSIVE["n2084071"] = RECURSIVE
BOMB = b"\x80\x04]\x94" + b"(" + b"h\x00" * 1000 + b"e."


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (pickle.dumps(Counter(COUNTS)), "begins with (SHORT_BINUNICODE|GLOBAL)"),
        (pickle.dumps(OrderedDict(COUNTS)), "begins with (SHORT_BINUNICODE|GLOBAL)"),
        (pickle.dumps(list(COUNTS)), "begins with EMPTY_LIST"),
        (pickle.dumps({"n2084071": np.int64(5)}), "with STACK_GLOBAL"),
        (pickle.dumps({"n2084071": print}), "with STACK_GLOBAL"),
        (pickle.dumps({"n2084071": 5.0}), "with BINFLOAT"),
        (pickle.dumps({"n2084071": None}), "with NONE"),
        (pickle.dumps({"n2084071": True}), "with NEWTRUE"),
        (pickle.dumps({"n2084071": True}, 0), "bool True as the count"),
        (pickle.dumps({"n2084071": "5"}), "str '5' as the count"),
        (pickle.dumps({"n2084071": 0}), "int 0 as the count"),
        (pickle.dumps({"n2084071": 1 << 70}), "as the count"),
        (pickle.dumps({"n2084071": 1 << 100_000}), "a number of 100,001 bits as the count"),
        (pickle.dumps({5: 5}), "found the key int 5"),
        (pickle.dumps({"dog.n.01": 5}), "found the key str 'dog"),
        (pickle.dumps({"v2084071": 5}), "found the key str 'v2084071'"),
        (pickle.dumps({"n123456789": 5}), "found the key"),
        (pickle.dumps({"n\u0662": 5}), "found the key"),
        (pickle.dumps({"n2084072": 5}), "no noun of WordNet 3.0, the first of them n2084072"),
        (pickle.dumps({"n2084071": 5, "n02084071": 4}), "a synset that stands twice"),
        (pickle.dumps({"n2084071": 5, "n2121620": 6}), r"larger than the one before it \(n2121620\)"),
        (pickle.dumps(NESTED), "with EMPTY_DICT"),
        (pickle.dumps(RECURSIVE), "with BINGET"),
        (BOMB, "begins with EMPTY_LIST"),
        (pickle.dumps(COUNTS)[:-1], "no readable pickle"),
        (pickle.dumps(COUNTS)[:30], "no readable pickle"),
        (pickle.dumps(COUNTS) + b"x", "1 bytes after the end"),
        (pickle.dumps(COUNTS) + pickle.dumps(COUNTS), "bytes after the end"),
        (b"", "no readable pickle"),
        (b"n2084071 5\n", "no readable pickle|begins with|with "),
        (b"{'n2084071': 5}\n", "no readable pickle"),
        (b"}.", "found 0 synsets"),
        (b"}(.", "with STOP"),
        (b"}(X\x01\x00\x00\x00nu.", "with SETITEMS"),
        (b"}K\x01s.", "with SETITEM"),
        (b"}K\x01K\x02.", "with STOP"),
        (b"((d.", "begins with MARK"),
        (b"d.", "begins with DICT"),
        (b".", "begins with STOP"),
        (b"}\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "no readable pickle"),
        (b"cos\nsystem\n(S'true'\ntR.", "begins with GLOBAL"),
        (b"}(Pid\nK\x01u.", "with PERSID"),
    ],
)
def test_a_pickle_that_is_no_vocabulary_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    with pytest.raises((InputError, MismatchError), match=match):
        vocabulary_of(tmp_path, content, 1)


def test_code_in_a_vocabulary_is_refused_and_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for value in (Code(ran), {"n2084071": Code(ran)}, {Code(ran): 1}):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(InputError, match="wanted a pickled dict of counts by synset"):
                vocabulary_of(tmp_path, pickle.dumps(value, protocol), 1)
    assert not ran.exists()


@given(st.binary(max_size=60), st.integers(0, 40))
def test_noise_gives_nothing_but_named_errors(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int
) -> None:
    content = pickle.dumps(COUNTS)
    for altered in (noise, content[:place] + noise + content[place:], content[:place] + noise):
        with contextlib.suppress(CatlipError):
            vocabulary_of(tmp_path_factory.getbasetemp(), altered, 1)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "v.pkl").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match=r"found more bytes than any vocabulary .*\(33,554,432\)"):
        read_vocabulary(tmp_path / "v.pkl", classes=1)


def test_a_vocabulary_that_is_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"v\.pkl"):
        read_vocabulary(tmp_path / "v.pkl", classes=1)
