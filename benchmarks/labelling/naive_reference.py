"""The released label rule written down naively, to check `vocab.reference` and to measure what the rule costs.

    python -m benchmarks.labelling.naive_reference [--data DIR] [--captions 4000]

In: captions/ and gold/ of the folder with real data (CATLIP_DATA). Out: how many captions `vocab.reference` labels
otherwise, captions/s of it, of the naive loop, and of the naive loop with the released code's unused tagging, and one
JSON object. Nothing of `vocab.reference` is used in the naive loop: it calls NLTK word by word, as the released code
does, and remembers nothing.

Where NLTK's own data is absent, WordNet is put together from Debian's files, Punkt goes untrained, and the result says
so. The tagger is of NLTK's kind but trained on the spot, on a treebank; how fast NLTK's own is, it only suggests.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ftfy
import nltk
import pyarrow as pa
import tyro
from nltk.tokenize import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktSentenceTokenizer

from benchmarks.labelling.sources import read_sources
from benchmarks.measuring.setting import DATA
from vocab.errors import run_cli

DEBIAN_WORDNET = Path("/usr/share/wordnet")


@dataclass(frozen=True)
class NaiveReference:
    """Check `vocab.reference` against the naive loop, and time both."""

    data: Path = DATA
    """folder with captions/ and gold/"""
    captions: int = 4_000
    """captions of each corpus to compare; 0 for all"""
    timed: int = 4_000
    """captions to time, drawn evenly from all corpora"""
    runs: int = 3
    """timed runs of each; the fastest counts"""


@dataclass(frozen=True)
class Tools:
    """Tools that the naive loop calls."""

    wordnet: str
    """"installed" or "debian": whose files `nltk.corpus.wordnet` reads"""
    punkt: str
    """"installed" or "untrained" """
    word_tokenize: Callable[[str], list[str]]
    """NLTK's, or what it is made of over an untrained Punkt"""


def load_tools(folder: Path) -> Tools:
    """NLTK's own data where installed; otherwise a WordNet of NLTK's layout is written to `folder` from Debian's files.

    `nltk.corpus.wordnet` is then the whole process's, as the lemmatizer of NLTK wants it.
    """
    wordnet = "installed"
    try:
        nltk.data.find("corpora/wordnet.zip")
    except LookupError:
        try:
            nltk.data.find("corpora/wordnet")
        except LookupError:
            wordnet = "debian"
            write_nltk_wordnet(folder)
            nltk.data.path.append(str(folder))
    nltk.corpus.wordnet.ensure_loaded()
    try:
        nltk.word_tokenize("a dog")
    except LookupError:
        return Tools(wordnet, "untrained", untrained_word_tokenize())
    return Tools(wordnet, "installed", nltk.word_tokenize)


def untrained_word_tokenize() -> Callable[[str], list[str]]:
    """`nltk.word_tokenize` over a Punkt that was never trained."""
    sentence_tokenizer, word_tokenizer = PunktSentenceTokenizer(), NLTKWordTokenizer()

    def word_tokenize(text: str) -> list[str]:
        words = []
        for sentence in sentence_tokenizer.tokenize(text):
            words.extend(word_tokenizer.tokenize(sentence))
        return words

    return word_tokenize


def write_nltk_wordnet(folder: Path) -> None:
    """corpora/wordnet in NLTK's layout: Debian's files; no label depends on `lexnames` and `index.sense`."""
    corpus = folder / "corpora" / "wordnet"
    corpus.mkdir(parents=True)
    for file in DEBIAN_WORDNET.iterdir():
        if file.is_file():
            shutil.copyfile(file, corpus / file.name)
    # Read twice, for the wordnets of other languages.
    (corpus / "index.sense").write_text("")
    (corpus / "lexnames").write_text("".join(f"{number:02d}\tname{number}\t0\n" for number in range(45)))


def naive_words(caption: str, tools: Tools) -> list[str]:
    """The words of a caption as the released code splits them."""
    caption = urllib.parse.unquote(caption)
    caption = caption.replace("+", " ")
    caption = re.sub("<.*?>", "", caption)
    caption = caption.strip("\n")
    caption = re.sub(" +", " ", caption)
    return tools.word_tokenize(ftfy.fix_text(caption).strip().lower())


def synsets_of_words(words: list[str]) -> set[int]:
    """Offsets of the words' synsets, looked up one by one."""
    lemmatizer = nltk.stem.WordNetLemmatizer()
    synsets = set()
    for word in words:
        try:
            lemma = lemmatizer.lemmatize(word)
            synset = nltk.corpus.wordnet.synset(f"{lemma}.n.01")
        except Exception:  # noqa: BLE001 - as the released code has it
            continue
        if synset.name() == f"{lemma}.n.01":
            synsets.add(synset.offset())
    return synsets


def naive_labels(caption: str, tools: Tools) -> set[int]:
    """Labels of one caption, without the tags that the released code computes and drops."""
    return synsets_of_words(naive_words(caption, tools))


def released_labels(caption: str, tagger: Any, tools: Tools) -> set[int]:
    """Labels of one caption with all the work of the released code: words are tagged, and the tags dropped."""
    return synsets_of_words([word for word, _ in tagger.tag(naive_words(caption, tools))])


def reference_labels(captions: list[str], tools: Tools) -> list[list[int]]:
    """Labels by `vocab.reference`, over the same data as the naive loop's."""
    from vocab import reference

    labeler = reference.load(
        wordnet=None if tools.wordnet == "installed" else DEBIAN_WORDNET,
        punkt="installed" if tools.punkt == "installed" else "untrained",
    )
    lists: list[list[int]] = labeler.label(pa.array(captions, pa.string())).to_pylist()
    return lists


def differences(captions: list[str], tools: Tools) -> int:
    """Captions that `vocab.reference` labels otherwise than the naive loop."""
    return sum(
        labels != sorted(naive_labels(caption, tools))
        for caption, labels in zip(captions, reference_labels(captions, tools), strict=True)
    )


def train_tagger(treebank: Path, sentences: int = 2_000) -> Any:
    """NLTK's kind of tagger, trained on the first sentences of a CoNLL-U file, gzipped or not."""
    from nltk.tag import PerceptronTagger

    tagger = PerceptronTagger(load=False)
    tagger.train(read_tagged(treebank, sentences), nr_iter=1)
    return tagger


def read_tagged(treebank: Path, sentences: int) -> list[list[tuple[str, str]]]:
    """(word, Penn tag) of each sentence, from lines such as `3<TAB>dogs<TAB>dog<TAB>NOUN<TAB>NNS<TAB>...`."""
    tagged: list[list[tuple[str, str]]] = [[]]
    text = gzip.decompress(treebank.read_bytes()) if treebank.suffix == ".gz" else treebank.read_bytes()
    for line in text.decode().splitlines():
        fields = line.split("\t")
        if len(fields) >= 5 and fields[0].isdecimal():
            tagged[-1].append((fields[1], fields[4]))
        elif not line and tagged[-1]:
            if len(tagged) == sentences:
                return tagged
            tagged.append([])
    return [sentence for sentence in tagged if sentence]


def naive_seconds(captions: list[str], tools: Tools) -> float:
    """Processor seconds of the naive loop."""
    start = time.process_time()
    for caption in captions:
        naive_labels(caption, tools)
    return time.process_time() - start


def released_seconds(captions: list[str], tagger: Any, tools: Tools) -> float:
    """Processor seconds of the released rule as released: with the tagging whose result it never looks at."""
    start = time.process_time()
    for caption in captions:
        released_labels(caption, tagger, tools)
    return time.process_time() - start


def reference_seconds(captions: list[str], tools: Tools) -> float:
    """Processor seconds of `vocab.reference`, which is loaded beforehand."""
    reference_labels([], tools)
    start = time.process_time()
    reference_labels(captions, tools)
    return time.process_time() - start


def measure(options: NaiveReference, folder: Path) -> dict[str, object]:
    """Compare and time; prints as it goes, returns the JSON object."""
    tools = load_tools(folder)
    sys.stdout.write(f"nltk {nltk.__version__}, WordNet {tools.wordnet}, Punkt {tools.punkt}\n")
    corpora = read_sources(options.data)
    different: dict[str, int] = {}
    compared: dict[str, int] = {}
    for name, captions in corpora.items():
        step = max(1, len(captions) // options.captions) if options.captions else 1
        sample = captions[::step]
        compared[name] = len(sample)
        different[name] = differences(sample, tools)
        sys.stdout.write(f"{name:<12}{len(sample):>8,} captions{different[name]:>6} different\n")
    everything = [caption for captions in corpora.values() for caption in captions]
    timed = everything[:: max(1, len(everything) // options.timed)]
    tagger = train_tagger(options.data / "gold" / "en_ewt-train.conllu.gz")
    seconds = {
        "reference": min(reference_seconds(timed, tools) for _ in range(options.runs)),
        "naive": min(naive_seconds(timed, tools) for _ in range(options.runs)),
        "released": min(released_seconds(timed, tagger, tools) for _ in range(options.runs)),
    }
    return {
        "nltk": nltk.__version__,
        "wordnet": tools.wordnet,
        "punkt": tools.punkt,
        "compared": sum(compared.values()),
        "different": sum(different.values()),
        "timed": len(timed),
        **{f"{name}_captions_per_second": round(len(timed) / taken) for name, taken in seconds.items()},
        "ratio_reference_to_released": round(seconds["released"] / seconds["reference"], 2),
    }


def main() -> None:
    """Measure and print."""
    options = tyro.cli(NaiveReference)
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(measure(options, Path(folder))) + "\n")


if __name__ == "__main__":
    run_cli(main)
