"""Quality of the labels against gold data, and whether the fast labelers equal the plain ones.

    python benchmarks/label_quality.py [--treebank FILE] [--quick] [--parts nouns labels ...] [--data DIR]

In: the folder with real data (CATLIP_DATA): captions/, gold/, lists/. Out: each figure with its breakdown as it goes;
last, one JSON object. What is measured:

**caption_f1, caption_precision, caption_recall, web_precision, web_recall**: labels of captions whose nouns people
judged (gold/captions.jsonl), of even ids; those of odd ids, with which rules and tables are tuned, are printed beside
them. Precision: share of labels that the caption's gold allows. Recall: share of nouns with a sense that have an
allowed label. `web_`: of raw web alt texts alone. **name_error, web_name_error**: share of labels that fall on a name
and are not allowed.

**depictable_f1, depictable_precision, depictable_recall**: the mark of what a picture can show (`vocab.depictable`)
against people's: judged nouns that have a sense, each by its best synset. Precision: share of nouns with the mark that
a picture of their caption can show. `depictable_f1_all_true`: every synset marked. Figures are of even ids; the rules
were written with those of odd ids, printed beside them.

**noun_f1, noun_f1_lower**: the tagger alone, on a treebank as it is written and in lower case. Gold: tokens whose UPOS
is NOUN or PROPN. Found: tokens that overlap a word whose highest score is that of a noun or a name. Addresses and
file names, which the labeler takes off before it tags anything, count as found, because the treebank calls them names;
the F1 that does not count them so is printed beside it.

**label_precision, label_recall**: the labeler on the lower-cased treebank, each sentence a caption. Its nouns cover
gold tokens: a single word those that it overlaps; a noun of several words those of its last word always, and those of
its other words that are NOUN or PROPN ("hot" in "hot dog" is neither claimed as a noun nor counted against it).
Precision: share of covered tokens that are NOUN, or PROPN with a label that WordNet spells as a name. Recall: share
covered of the tokens that are NOUN and that WordNet knows as a noun of one word, by lower-cased form, by the treebank's
lemma, or by a singular that the form may be a plural of; and of those that are PROPN and that WordNet knows as a name.
The sense is not judged. `_strict`: every token that a noun of several words covers counts. `_of_any_name`: every PROPN
counts as right, the definition before names were told apart.

**imagenet1k_reachable**: classes of ImageNet-1k whose own synset is among the labels of "a photo of a {lemma}" for at
least one of the synset's lemmas, spelled as in WordNet with spaces for underscores.

**semcor_sense_accuracy, semcor_first_sense_accuracy**: SemCor's nouns in documents that the senses were not fitted
on; the lemma is given, the sense asked. The first sense is WordNet's. Both know WordNet's order and counts of senses,
which were taken on all of SemCor, held-out documents too: their difference says more than either.

**reference_differences**: captions that `vocab.reference` labels otherwise than the released rule written down naively.

**oracle_differences**: captions and random texts that the labeler labels otherwise than `vocab.plain`.

The last two take some minutes on two cores; `--quick` compares a sample.

Then, for each corpus, its most frequent labels; and on web alt texts, how many labels fall on texts that a language
detector (py3langid, where installed) takes for another language than English.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # as a script or with -m: the project's modules are found
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import json
from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa
import tyro

from benchmarks.labelling.corpora import measure_sources, name_of
from benchmarks.labelling.depictable import measure_depictable
from benchmarks.labelling.equality import measure_oracle, measure_reference
from benchmarks.labelling.gold import measure_gold
from benchmarks.labelling.nouns import measure_labels, measure_nouns
from benchmarks.labelling.sources import read_sources, there
from benchmarks.measuring.setting import DATA
from vocab import labeler, wordnet
from vocab.errors import run_cli
from vocab.fit import senses_fit
from vocab.fit.semcor import read_semcor
from vocab.fit.treebank import read_treebank
from vocab.labeler import Labeler

Part = Literal["captions", "depictable", "nouns", "labels", "imagenet", "semcor", "reference", "oracle", "sources"]


@dataclass(frozen=True)
class LabelQuality:
    """Quality of the labels against gold data, and whether the fast labelers equal the plain ones."""

    data: Path = DATA
    """folder with captions/, gold/ and lists/"""
    treebank: Path | None = None
    """CoNLL-U file to measure on, plain or gzip; by default gold/en_ewt-dev.conllu.gz of the data folder"""
    semcor: Path | None = None
    """SemCor as JSON lines; by default gold/semcor_brown12_tokens.jsonl.gz of the data folder"""
    parts: tuple[Part, ...] = get_args(Part)
    """parts to measure"""
    quick: bool = False
    """compare with the plain labelers on a sample only"""
    seed: int = 1
    """seed of the random texts"""


def measure_imagenet(ours: Labeler, listed: Path) -> dict[str, object]:
    """imagenet1k_reachable."""
    synsets = [wordnet.synset_of_wnid(line.split()[0]) for line in there(listed).read_text().splitlines() if line]
    names = [(synset, word.replace("_", " ")) for synset in synsets for word in words_of(ours, synset)]
    reachable: dict[str, set[int]] = {}
    for spelling, case in (("as WordNet spells them", str), ("in lower case", str.lower)):
        captions = pa.array([f"a photo of a {case(name)}" for _, name in names])
        labels = ours.label(captions).to_pylist()
        reachable[spelling] = {synset for (synset, _), found in zip(names, labels, strict=True) if synset in found}
        sys.stdout.write(f"ImageNet-1k, {spelling}: {len(reachable[spelling])} of {len(synsets)} classes reachable\n")
    own, lower = reachable["as WordNet spells them"], reachable["in lower case"]
    for synset in dict.fromkeys(synsets):
        if synset not in own or synset not in lower:
            where = "neither" if synset not in own | lower else "lower case only" if synset in lower else "spelled only"
            words = ", ".join(words_of(ours, synset))
            labels = ours.label(pa.array([f"a photo of a {word.replace('_', ' ')}" for word in words_of(ours, synset)]))
            got = " | ".join(" ".join(name_of(ours, s) for s in found) for found in labels.to_pylist())
            sys.stdout.write(f"  {wordnet.wnid_of(synset)} ({where}): {words} -> {got}\n")
    return {"imagenet1k_reachable": len(own), "imagenet1k_reachable_lower": len(lower), "imagenet1k": len(synsets)}


def words_of(ours: Labeler, synset: int) -> list[str]:
    """A synset's words, with WordNet's capitals and underscores."""
    return ours.nouns.words_of(ours.nouns.row_of(synset))


def measure_semcor(ours: Labeler, semcor: Path) -> dict[str, object]:
    """semcor_sense_accuracy and semcor_first_sense_accuracy, on the documents held out."""
    sentences = [sentence for sentence in read_semcor(semcor) if senses_fit.is_test_document(sentence.document)]
    right, first, nouns = senses_fit.accuracy(ours.senses, sentences, ours.nouns, ours.tagger)
    documents = len({sentence.document for sentence in sentences})
    sys.stdout.write(
        f"SemCor, {documents} documents held out, {nouns:,} nouns: sense {right:.4f}, first sense {first:.4f}\n"
    )
    return {
        "semcor_sense_accuracy": round(right, 4),
        "semcor_first_sense_accuracy": round(first, 4),
        "semcor_nouns": nouns,
        "semcor_documents": documents,
    }


def measure(options: LabelQuality) -> dict[str, object]:
    """Measure the parts that were asked for; prints as it goes, returns the JSON object."""
    ours = labeler.load()
    gold, parts = options.data / "gold", options.parts
    result: dict[str, object] = {}
    if "captions" in parts:
        result |= measure_gold(ours, gold / "captions.jsonl")
    if "depictable" in parts:
        result |= measure_depictable(gold / "captions.jsonl")
    if "nouns" in parts or "labels" in parts:
        treebank = options.treebank or gold / "en_ewt-dev.conllu.gz"
        sentences = read_treebank(treebank)
        result["treebank"] = treebank.name
        if "nouns" in parts:
            result |= measure_nouns(ours, sentences)
        if "labels" in parts:
            result |= measure_labels(ours, sentences)
    if "imagenet" in parts:
        result |= measure_imagenet(ours, options.data / "lists" / "imagenet_synsets.txt")
    if "semcor" in parts:
        result |= measure_semcor(ours, options.semcor or gold / "semcor_brown12_tokens.jsonl.gz")
    if {"reference", "oracle", "sources"} & set(parts):
        sources = read_sources(options.data)
        if "sources" in parts:
            result |= measure_sources(ours, sources)
        if "reference" in parts:
            result |= measure_reference(sources, quick=options.quick)
        if "oracle" in parts:
            result |= measure_oracle(sources, quick=options.quick, seed=options.seed)
    return result | {"labeler": ours.fingerprint[:12]}


def main() -> None:
    """Measure and print."""
    result = measure(tyro.cli(LabelQuality))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    run_cli(main)
