"""The released label rule, as a table that can be read; then NLTK's data in each of its forms, and the naive loop."""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocab import reference, wordnet
from vocab.errors import InputError, MissingRequirementError

if TYPE_CHECKING:
    from benchmarks.labelling.naive_reference import Tools

nltk = pytest.importorskip("nltk", reason="needs NLTK: pip install nltk ftfy")
ftfy = pytest.importorskip("ftfy", reason="needs ftfy: pip install nltk ftfy")

DEBIAN_WORDNET = Path("/usr/share/wordnet")

needs_wordnet = pytest.mark.skipif(
    not (DEBIAN_WORDNET / "index.sense").is_file(),
    reason="needs WordNet's files: apt-get install wordnet-base wordnet-sense-index",
)


def load() -> reference.ReferenceLabeler:
    return reference.load(wordnet=DEBIAN_WORDNET, punkt="untrained")


def names(*captions: str | None) -> list[set[str]]:
    nouns = wordnet.load()
    lists = load().label(pa.array(captions, pa.string())).to_pylist()
    return [{nouns.name_of(nouns.row_of(synset)) for synset in synsets} for synsets in lists]


CAPTIONS = {
    # a noun is its first synset, plurals regular and not
    "a dog": "dog.n.01",
    "dogs, boxes and geese": "dog.n.01 box.n.01 goose.n.01",
    "the dog's ball": "dog.n.01 ball.n.01",
    # so is anything else that could be a noun
    "black, white and free": "black.n.01 white.n.01 free.n.01",
    "they are sitting": "are.n.01 sitting.n.01",
    # synonyms are dropped, not merged
    "a couch": "",
    "a sofa": "sofa.n.01",
    "my automobile": "",
    "photo, bike, kid, tv, phone": "",
    # no noun of several words
    "Two Golden Retrievers": "two.n.01 retriever.n.01",
    "a hot dog": "dog.n.01",
    "traffic lights": "traffic.n.01 light.n.01",
    "ice-cream": "",
    # the first sense only: a fierce person
    "a tiger": "tiger.n.01",
    # the shortest lemma, not the first: u.n.01 is a synset's second word and falls out
    "us": "",
    # what the web wraps around words
    "cat%20dog": "cat.n.01 dog.n.01",
    "cat+dog": "cat.n.01 dog.n.01",
    "cat%2Bdog": "cat.n.01 dog.n.01",
    "%3Cdog%3Ecat": "cat.n.01",
    "<b>cat</b>": "cat.n.01",
    "ca<b>t": "cat.n.01",
    "<a href='dog.html'>cat</a>": "cat.n.01",
    "cat <dog": "cat.n.01 dog.n.01",
    "cat <mouse\ndog> tree": "cat.n.01 mouse.n.01 dog.n.01 tree.n.01",
    "cat <\ndog> tree <house>": "cat.n.01 dog.n.01 tree.n.01",
    "&lt;dog&gt; &amp; cat": "dog.n.01 cat.n.01",
    "ﬁsh": "fish.n.01",
    "DOG": "dog.n.01",
    "http://dogs.com/dog.jpg": "",
    "собака 犬 🐶": "",
    "": "",
    " \t\n\u3000": "",
    "%ff%fe dog &#xD800; &bogus;": "dog.n.01",
}


@needs_wordnet
@pytest.mark.parametrize("caption", CAPTIONS)
def test_a_caption_gets_the_synsets_of_the_released_rule(caption: str) -> None:
    assert names(caption) == [set(CAPTIONS[caption].split())]


@needs_wordnet
def test_the_ten_most_frequent_labels_that_the_released_code_shows_are_found() -> None:
    """The keys in the docstring of the released code's `_get_vocab`, in its order."""
    captions = pa.array(["Free stock image: black and white, set of home design templates for women"])
    keys = [5928118, 13333833, 4960277, 7947958, 9638875, 928077, 7996689, 10787470, 5938976, 8559508]
    assert load().label(captions).to_pylist() == [sorted(keys)]


@needs_wordnet
def test_a_null_caption_gets_no_label() -> None:
    assert names(None, "a dog", None) == [set(), {"dog.n.01"}, set()]


@needs_wordnet
def test_no_caption_gives_no_list() -> None:
    assert names() == []


@needs_wordnet
def test_labels_are_lists_of_int32_unique_and_ascending() -> None:
    labels = load().label(pa.array(["tree dogs dog cat dog", "none of it"]))
    assert labels.type == pa.list_(pa.int32())
    assert labels.to_pylist() == [[2084071, 2121620, 13104059], [15228787]]


@needs_wordnet
def test_a_slice_of_an_array_is_labelled_like_a_copy() -> None:
    whole = pa.array(["a dog", "a cat", "<b>a sofa</b>", None, "mice"])
    label = load().label
    assert label(whole.slice(1, 3)).to_pylist() == label(whole).to_pylist()[1:4]


@needs_wordnet
@pytest.mark.parametrize("text", ["dog " * 50_000, "<" * 100_000, "dog. " * 2_000, "a" * 100_000, "%" * 100_000])
def test_a_huge_caption_is_labelled(text: str) -> None:
    assert names(text + " cat")[0] - {"dog.n.01"} == {"cat.n.01"}


@needs_wordnet
@pytest.mark.skipif(not hasattr(nltk, "redos"), reason="this NLTK puts no time limit on its regular expressions")
def test_labels_do_not_depend_on_how_long_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nltk.redos, "DEFAULT_TIMEOUT", 1e-9)
    with pytest.raises(TimeoutError):
        load().split_words("a dog. " * 1_000)
    assert names("a dog. " * 1_000) == [{"dog.n.01"}]
    assert nltk.redos.DEFAULT_TIMEOUT == 1e-9


@needs_wordnet
def test_unknown_words_leave_nothing_behind_in_nltk(tmp_path: Path) -> None:
    reader = reference.open_wordnet(reference.folder_of_wordnet(wordnet_of_dogs(tmp_path / "wordnet")))
    before = len(reader._lemma_pos_offset_map)
    assert reference.synset_of_word("qwertyuiops", wordnet=reader) is None
    assert len(reader._lemma_pos_offset_map) == before


@needs_wordnet
def test_the_fingerprint_names_what_the_labels_depend_on() -> None:
    tools = f"nltk {nltk.__version__} ftfy {ftfy.__version__} wordnet 3.0 punkt untrained"
    assert load().tools == tools
    assert re.fullmatch("[0-9a-f]{64}", load().fingerprint)


@given(st.text(alphabet="<>a\n\r\u2028", max_size=30))
def test_tags_are_deleted_as_the_released_expression_deletes_them(text: str) -> None:
    assert reference.without_tags(text) == re.sub("<.*?>", "", text)


words = st.sampled_from(["dog", "Dogs", "golden", "us", "are", "couch", "%20", "+", "<b>", "st.", "\n", "it's", "'90s"])
captions = st.one_of(st.text(max_size=60), st.lists(words, max_size=12).map(" ".join))


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    from benchmarks.labelling import naive_reference

    path = list(nltk.data.path)
    yield naive_reference.load_tools(tmp_path_factory.mktemp("nltk_data"))
    nltk.data.path[:] = path


@needs_wordnet
@settings(max_examples=40, deadline=None)
@given(st.lists(captions, max_size=8))
def test_labels_are_those_of_the_naive_loop(tools: Tools, batch: list[str]) -> None:
    from benchmarks.labelling import naive_reference

    assert naive_reference.differences(batch, tools) == 0


@needs_wordnet
def test_the_unused_tagging_of_the_released_code_changes_no_label(tools: Tools, tmp_path: Path) -> None:
    from benchmarks.labelling import naive_reference

    treebank = tmp_path / "tiny.conllu"
    treebank.write_text("# text = Dogs bark\n1\tDogs\tdog\tNOUN\tNNS\n2\tbark\tbark\tVERB\tVBP\n\n")
    tagger = naive_reference.train_tagger(treebank)
    assert naive_reference.released_labels("a dog's bark", tagger, tools) == {2084071, 13162297}


@pytest.fixture
def nltk_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of NLTK's data, the only one."""
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    return tmp_path


def wordnet_of_dogs(folder: Path) -> Path:
    """Copy WordNet's files with indices that list one word, for NLTK takes seconds to read the whole ones."""
    folder.mkdir(parents=True)
    for file in (*reference.DATABASE_FILES, "index.sense", "cntlist.rev"):
        shutil.copyfile(DEBIAN_WORDNET / file, folder / file)
    for index in folder.glob("index.*"):
        with index.open() as lines:
            kept = [line for line in lines if line.startswith(("  ", "dog "))]
        index.write_text("".join(kept))
    (folder / "lexnames").write_text(reference.LEXNAMES)
    return folder


@needs_wordnet
def test_wordnet_is_read_where_nltks_downloader_unpacks_it(nltk_data: Path) -> None:
    wordnet_of_dogs(nltk_data / "corpora" / "wordnet")
    reader = reference.open_wordnet(reference.installed_wordnet())
    assert reference.synset_of_word("dogs", wordnet=reader) == 2084071


@needs_wordnet
def test_wordnet_is_read_from_the_zip_that_nltks_downloader_leaves(nltk_data: Path) -> None:
    folder = wordnet_of_dogs(nltk_data / "unpacked")
    (nltk_data / "corpora").mkdir()
    with zipfile.ZipFile(nltk_data / "corpora" / "wordnet.zip", "w") as archive:
        archive.writestr("wordnet/", "")
        for file in folder.iterdir():
            archive.write(file, f"wordnet/{file.name}")
    reader = reference.open_wordnet(reference.installed_wordnet())
    assert reference.synset_of_word("dogs", wordnet=reader) == 2084071


def test_missing_wordnet_is_named_with_the_command_that_installs_it(nltk_data: Path) -> None:
    with pytest.raises(MissingRequirementError) as error:
        reference.load.__wrapped__()
    assert str(error.value) == (
        f"NLTK's corpora/wordnet: found not in any of ['{nltk_data}']; wanted WordNet 3.0 as NLTK packs it. "
        "Run: python -m nltk.downloader wordnet punkt_tab"
    )


@needs_wordnet
def test_missing_punkt_is_never_replaced_silently(nltk_data: Path) -> None:
    with pytest.raises(MissingRequirementError) as error:
        reference.load.__wrapped__(wordnet=DEBIAN_WORDNET)
    assert error.value.thing == "NLTK's tokenizers/punkt_tab"
    assert error.value.remedy == "Run: python -m nltk.downloader wordnet punkt_tab"


@needs_wordnet
def test_trained_punkt_is_used_where_it_is_installed(nltk_data: Path) -> None:
    from nltk.tokenize.punkt import PunktParameters, save_punkt_params

    parameters = PunktParameters()
    parameters.abbrev_types.add("st")
    english = nltk_data / "tokenizers" / "punkt_tab" / "english"
    english.mkdir(parents=True)
    save_punkt_params(parameters, dir=str(english))
    labeler = reference.load.__wrapped__(wordnet=wordnet_of_dogs(nltk_data / "wordnet"))
    assert labeler.tools.endswith("punkt installed")
    assert labeler.split_words("st. bernard. dogs.") == ["st.", "bernard", ".", "dogs", "."]
    assert load().split_words("st. bernard. dogs.") == ["st", ".", "bernard", ".", "dogs", "."]


def test_a_folder_without_wordnets_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.noun: found no such file; wanted WordNet 3\.0's database files"):
        reference.load.__wrapped__(wordnet=tmp_path, punkt="untrained")


@needs_wordnet
def test_another_version_of_wordnet_is_refused(tmp_path: Path) -> None:
    folder = wordnet_of_dogs(tmp_path / "wordnet-3.1")
    other = (folder / "data.adj").read_text().replace("WordNet 3.0 Copyright", "WordNet 3.1 Copyright")
    (folder / "data.adj").write_text(other)
    with pytest.raises(InputError, match=r"found WordNet 3\.1; wanted WordNet 3\.0"):
        reference.load.__wrapped__(wordnet=folder, punkt="untrained")


@pytest.mark.parametrize("package", ["nltk", "ftfy"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingRequirementError, match=rf"package {package}.* Run: pip install nltk ftfy"):
        reference.load.__wrapped__()
