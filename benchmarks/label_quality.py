"""Quality of the labels against gold data, and whether the fast labelers equal the plain ones.

    python benchmarks/label_quality.py [--treebank FILE] [--quick] [--parts nouns labels ...] [--data DIR]

In: the folder with real data (CATLIP_DATA): captions/, gold/, lists/. Out: each figure with its breakdown as it goes;
last, one JSON object. What is measured:

**noun_f1, noun_f1_lower**: the tagger alone, on a treebank as it is written and in lower case. Gold: tokens whose UPOS
is NOUN or PROPN. Found: tokens that overlap a word to which the tagger gives its highest score as a noun. Addresses and
file names, which the labeler takes off before it tags anything, count as found, because the treebank calls them names;
the F1 that does not count them so is printed beside it.

**label_precision, label_recall**: the labeler on the lower-cased treebank, each sentence a caption. Its nouns cover
gold tokens: a single word those that it overlaps; a noun of several words those of its last word always, and those of
its other words that are NOUN or PROPN ("hot" in "hot dog" is neither claimed as a noun nor counted against it).
Precision: share of covered tokens that are NOUN or PROPN. Recall: share covered of the tokens that are NOUN or PROPN
and that WordNet knows as a noun of one word, by lower-cased form, by the treebank's lemma, or by a singular that the
form may be a plural of. The sense is not judged. `_strict`: every token that a noun of several words covers counts.

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

import collections
import html
import importlib.util
import json
import multiprocessing
import random
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tyro
from numpy.typing import NDArray

from benchmarks.labelling.sources import evenly, read_sources
from benchmarks.measuring.setting import DATA
from vocab import labeler, plain, wordnet
from vocab.cleaning import ADDRESS, FILE, HOST, clean
from vocab.context import Context, context_of
from vocab.errors import InputError, run_cli
from vocab.fit import senses_fit
from vocab.fit.semcor import read_semcor
from vocab.fit.treebank import Aligned, GoldToken, align, read_treebank
from vocab.labeler import Labeler
from vocab.morphology import singular_forms
from vocab.tagger import Tag, Tagger

Part = Literal["nouns", "labels", "imagenet", "semcor", "reference", "oracle", "sources"]
Result = TypeVar("Result")
NOUN_UPOS = ("NOUN", "PROPN")
PROCESSES = 2
SHOWN = 30
"""mistakes to print"""
HEAD = 50
"""most frequent labels of a corpus to print"""
RANDOM_TEXTS = 100_000
QUICK = 4_000
"""captions, and random texts, that `--quick` compares"""
LANGUAGES = "en de fr es pt it nl da sv no fi pl cs sk hu ro bg el ru uk tr ar he fa hi bn th vi id ja ko zh".split()
"""what the detector chooses from: of a hundred languages, short titles are taken for Nigerian Pidgin and Latin"""
CONFIDENT = 0.8
"""probability from which the detector's language counts; a quarter of such texts are English with foreign names"""


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
    """what to measure"""
    quick: bool = False
    """compare with the plain labelers on a sample only"""
    seed: int = 1
    """of the random texts"""


@dataclass(frozen=True)
class Match:
    """Tokens found, tokens wanted, and those that are both."""

    found: int
    wanted: int
    both: int

    @property
    def precision(self) -> float:
        """Share of the found that is wanted; 0 where nothing is found."""
        return self.both / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of the wanted that is found; 0 where nothing is wanted."""
        return self.both / self.wanted if self.wanted else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        return 2 * self.both / (self.found + self.wanted) if self.found + self.wanted else 0.0

    def __str__(self) -> str:
        return (
            f"precision {self.precision:.4f} recall {self.recall:.4f} F1 {self.f1:.4f} "
            f"({self.both:,} of {self.found:,} found and {self.wanted:,} wanted)"
        )


def match(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> Match:
    """Count two masks over the same tokens."""
    return Match(int(found.sum()), int(wanted.sum()), int((found & wanted).sum()))


def covered(first: NDArray[np.int64], last: NDArray[np.int64], tokens: int) -> NDArray[np.bool_]:
    """[tokens] which gold tokens words overlap; word i overlaps those from first[i] to last[i], both included."""
    steps = np.bincount(first, minlength=tokens + 1) - np.bincount(last + 1, minlength=tokens + 1)
    mask: NDArray[np.bool_] = np.cumsum(steps)[:tokens] > 0
    return mask


def is_gold_noun(tokens: Sequence[GoldToken]) -> NDArray[np.bool_]:
    """[tokens] NOUN and PROPN."""
    return np.array([token.upos in NOUN_UPOS for token in tokens], dtype=bool)


def is_taken_off(tokens: Sequence[GoldToken]) -> NDArray[np.bool_]:
    """[tokens] addresses and file names."""
    return np.array(
        [bool(ADDRESS.search(token.form) or HOST.search(token.form) or FILE.search(token.form)) for token in tokens],
        dtype=bool,
    )


def in_context(tagger: Tagger, aligned: Aligned) -> Context:
    """The words of a treebank as the tagger sees them."""
    encoded = aligned.tokens.words.dictionary_encode()
    rows = tagger.rows(encoded.dictionary)[np.asarray(encoded.indices)]
    return context_of(aligned.tokens, rows, tagger.pad)


def measure_nouns(ours: Labeler, sentences: list[list[GoldToken]]) -> dict[str, object]:
    """noun_f1 and noun_f1_lower."""
    tokens = [token for sentence in sentences for token in sentence]
    gold, taken_off = is_gold_noun(tokens), is_taken_off(tokens)
    cases: dict[str, Callable[[str], str]] = {"noun_f1": str, "noun_f1_lower": str.lower}
    result: dict[str, object] = {}
    for name, case in cases.items():
        aligned = align(sentences, case=case)
        context = in_context(ours.tagger, aligned)
        nouns = ours.scorer.scores(context, context.at).argmax(axis=1) == Tag.NOUN
        tagged = covered(aligned.first[nouns], aligned.last[nouns], len(tokens))
        counts, without = match(tagged | taken_off, gold), match(tagged, gold)
        sys.stdout.write(f"{name}: {counts}\n  without addresses and file names: {without}\n")
        print_mistakes(tokens, (tagged | taken_off) & ~gold, gold & ~(tagged | taken_off))
        result |= {name: round(counts.f1, 4), f"{name}_without_addresses": round(without.f1, 4)}
    return result | {"sentences": len(sentences), "tokens": len(tokens), "gold_nouns": int(gold.sum())}


def measure_labels(ours: Labeler, sentences: list[list[GoldToken]]) -> dict[str, object]:
    """label_precision and label_recall, on the treebank in lower case."""
    tokens = [token for sentence in sentences for token in sentence]
    gold = is_gold_noun(tokens)
    known = gold & is_known_noun(tokens, ours.nouns)
    aligned = align(sentences, case=str.lower)
    context = in_context(ours.tagger, aligned)
    accents = np.array([sum(clean(token.form)[1] for token in sentence) for sentence in sentences], dtype=np.int64)
    english = ours.is_english(context, accents)
    last_words, other_words = words_of_nouns(ours, ours.in_english(context, accents))
    lasts = covered(aligned.first[last_words], aligned.last[last_words], len(tokens))
    others = covered(aligned.first[other_words], aligned.last[other_words], len(tokens))
    lenient, strict = lasts | (others & gold), lasts | others
    result: dict[str, object] = {}
    for suffix, found in (("", lenient), ("_strict", strict)):
        precise, recalled = match(found, gold), match(found, known)
        sys.stdout.write(
            f"label_precision{suffix} {precise.precision:.4f} ({precise.both:,} of {precise.found:,} tokens)  "
            f"label_recall{suffix} {recalled.recall:.4f} ({recalled.both:,} of {recalled.wanted:,} tokens)\n"
        )
        result |= {f"label_precision{suffix}": round(precise.precision, 4)}
        result |= {f"label_recall{suffix}": round(recalled.recall, 4)}
    sys.stdout.write(
        f"  {int(gold.sum()):,} gold nouns, of which WordNet knows {int(known.sum()):,}; {int((~english).sum())} of "
        f"{len(english):,} sentences taken for another language\n"
    )
    print_mistakes(tokens, lenient & ~gold, known & ~lenient)
    return result | {"known_gold_nouns": int(known.sum()), "sentences_not_english": int((~english).sum())}


def words_of_nouns(ours: Labeler, context: Context) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Words, numbered without the empty places, that are the last of a noun that is found, and its other words."""
    nouns = ours.find_nouns(context)
    word_at = np.full(len(context.rows), -1)
    word_at[context.at] = np.arange(len(context.at))
    lengths = nouns.lasts - nouns.firsts + 1
    others = [nouns.lasts[lengths > back] - back for back in range(1, int(lengths.max(initial=1)))]
    return word_at[nouns.lasts], word_at[np.concatenate([np.zeros(0, dtype=np.int64), *others])]


def is_known_noun(tokens: Sequence[GoldToken], nouns: wordnet.WordNet) -> NDArray[np.bool_]:
    """[tokens] whether WordNet has the token, lower-cased, its lemma or a singular of it among its nouns."""
    forms = pa.array([clean(token.form)[0].lower() for token in tokens], pa.string())
    lemmas = pa.array([clean(token.lemma)[0].lower() for token in tokens], pa.string())
    known = np.zeros(len(tokens), dtype=bool)
    for candidates in (lemmas, *singular_forms(forms, nouns)):
        known |= np.asarray(pc.is_in(candidates, value_set=nouns.lemmas, skip_nulls=True), dtype=bool)
    return known


def print_mistakes(tokens: Sequence[GoldToken], wrong: NDArray[np.bool_], missed: NDArray[np.bool_]) -> None:
    """The tokens that are most often wrong and missed, with their parts of speech."""
    for title, mask in (("wrong", wrong), ("missed", missed)):
        chosen = [tokens[index] for index in np.flatnonzero(mask).tolist()]
        counts = collections.Counter(f"{token.form.lower()}/{token.upos}" for token in chosen)
        head = " ".join(f"{word}:{count}" for word, count in counts.most_common(SHOWN))
        sys.stdout.write(f"  {title}, {int(mask.sum()):,}: {head}\n")


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


def name_of(ours: Labeler, synset: int) -> str:
    """A synset's usual name."""
    return ours.nouns.name_of(ours.nouns.row_of(synset))


def there(file: Path) -> Path:
    """The file itself. Raises InputError if there is none."""
    if not file.is_file():
        raise InputError(
            file, found="no such file", wanted="a file of the data folder", remedy="Set CATLIP_DATA, or pass --data."
        )
    return file


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


def measure_reference(sources: dict[str, list[str]], *, quick: bool) -> dict[str, object]:
    """reference_differences."""
    missing = [package for package in ("nltk", "ftfy") if importlib.util.find_spec(package) is None]
    if missing:
        sys.stdout.write(f"the released rule is not compared: no package {' and '.join(missing)}\n")
        return {"reference_differences": None}
    captions = [caption for texts in sources.values() for caption in texts]
    captions = evenly(captions, QUICK) if quick else captions
    different = sum(in_processes(count_reference_differences, captions))
    sys.stdout.write(f"vocab.reference and the naive loop differ on {different} of {len(captions):,} captions\n")
    return {"reference_differences": different, "reference_compared": len(captions)}


def count_reference_differences(captions: list[str]) -> int:
    """Captions that `vocab.reference` labels otherwise than the naive loop; in a process of its own."""
    from benchmarks.labelling import naive_reference

    with tempfile.TemporaryDirectory() as folder:
        return naive_reference.differences(captions, naive_reference.load_tools(Path(folder)))


def measure_oracle(sources: dict[str, list[str]], *, quick: bool, seed: int) -> dict[str, object]:
    """oracle_differences."""
    everything = [caption for texts in sources.values() for caption in texts]
    compared = {
        **sources,
        "random": random_texts(everything, QUICK if quick else RANDOM_TEXTS, seed=seed),
    }
    different = 0
    for name, texts in compared.items():
        texts = evenly(texts, QUICK) if quick else texts
        differing = [text for part in in_processes(oracle_differences, texts) for text in part]
        sys.stdout.write(f"fast and plain differ on {len(differing)} of {len(texts):,} texts: {name}\n")
        for text in differing[:3]:
            fast, slow = both_labels(text)
            sys.stdout.write(f"  {text[:200]!r}\n    fast {fast}\n    plain {slow}\n")
        different += len(differing)
    count = sum(min(len(texts), QUICK) if quick else len(texts) for texts in compared.values())
    return {"oracle_differences": different, "oracle_compared": count}


def oracle_differences(texts: list[str]) -> list[str]:
    """The texts that `vocab.plain` labels otherwise than the labeler."""
    ours = labeler.load()
    fast = ours.label(pa.array(texts, pa.string())).to_pylist()
    slow = plain.label(ours, texts)
    return [text for text, a, b in zip(texts, fast, slow, strict=True) if a != b]


def both_labels(text: str) -> tuple[list[str], list[str]]:
    """Names of the labels of one text, by the labeler and by `vocab.plain`."""
    ours = labeler.load()
    fast, slow = ours.label(pa.array([text])).to_pylist()[0], plain.label(ours, [text])[0]
    return [name_of(ours, synset) for synset in fast], [name_of(ours, synset) for synset in slow]


def in_processes(work: Callable[[list[str]], Result], texts: list[str]) -> list[Result]:
    """What `work` gives for parts of the texts, each in a process of its own."""
    parts = [texts[start::PROCESSES] for start in range(PROCESSES)]
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(work, parts))


# What random texts are made of, besides the words of captions.
PIECES = (
    "the a of and in on is was can white house hot dog ice cream close up der und la 3 2019 1st 3d x US us A I".split(),
    [*".,;:!?'\"`-_~()[]{}<>/|\\*&+@#%^=$", "--", "...", "'s", "' s", "’s", "“", "”", "–", "—", "…", "•", "n't", "s'"],
    "&amp; &lt; &gt; &quot; &#39; &#x27; &amp;amp; &amp;lt;b&amp;gt; &eacute; &nbsp; &bogus; &#0; &".split(),
    "%20 %2C %C3%A9 %E2%80%99 %26amp%3B %3Cb%3E %zz % 100% %0A %00 + %FF".split(),
    "<b> </b> <br/> <a < > << >> <3 http://a.example/dog.png www.cat.com me@dog.org IMG_01.JPG".split(),
    ".gov .JPG dog.jpg?x=1 !.png .html .company a.b. dog.cat :// http:// @ @dog www. ..com".split(),
    ["<img src='dog.jpg'>", "e\u0301", "n\u0303", "\u0301", "²", "½", "™"],
    "à é î ö ü ñ ç ß æ ø ł ı Å Ž ŉ ﬁ ǆ café naïve Zürich garçon".split(),
    "🐶 🐱‍👤 👩‍👩‍👧 🇩🇪 ❤️ ☃ ★ 👍🏽".split(),
    "犬 ソファの犬 日本語 собака Ёж كلب שלום कुत्ता สุนัข 개 ＤＯＧ ｄｏｇ 𝐝𝐨𝐠 Ⅷ ①".split(),
    [*map(chr, range(32)), *"\x7f\x80\x85\u00a0\u00ad\u200b\u200d\u2028\ufeff\ufffd"],
)
LONGEST = 200


def random_texts(captions: Sequence[str], count: int, *, seed: int) -> list[str]:
    """Texts of 0 to LONGEST characters: words of the captions, and all that surrounds words on the web, in any order.

    Always the same for the same arguments. A text is cut wherever its length is reached, inside an entity as well.
    """
    generator = random.Random(seed)
    words = sorted({word for caption in evenly(list(captions), 20_000) for word in caption.split()}) or PIECES[0]
    texts = []
    for _ in range(count):
        length = generator.randint(0, LONGEST)
        share = generator.random()  # of words from captions: from none to all
        spaces = generator.choice((" ", " ", " ", "", "-", "  "))
        pieces: list[str] = []
        size = 0
        while size < length:
            pool = words if generator.random() < share else generator.choice(PIECES)
            piece = generator.choice(pool) + (spaces if generator.random() < 0.9 else "")
            pieces.append(piece)
            size += len(piece)
        texts.append("".join(pieces)[:length])
    return texts


def measure_sources(ours: Labeler, sources: dict[str, list[str]]) -> dict[str, object]:
    """Most frequent labels, labels per caption and captions without a label, of each corpus; languages of the web's."""
    found: dict[str, object] = {}
    languages: dict[str, object] = {}
    for name, texts in sources.items():
        lists = ours.label(pa.array(texts, pa.string()))
        counts = collections.Counter(lists.flatten().to_pylist())
        empty = int(np.sum(np.asarray(pc.list_value_length(lists)) == 0)) / len(texts)
        per_caption = counts.total() / len(texts)
        sys.stdout.write(
            f"{name}: {len(texts):,} captions, {per_caption:.2f} labels each, {empty:.2%} without, "
            f"{len(counts):,} synsets\n"
            f"  {' '.join(f'{name_of(ours, synset)}:{count}' for synset, count in counts.most_common(HEAD))}\n"
        )
        found[name] = {"labels_per_caption": round(per_caption, 3), "without_label": round(empty, 4)}
        if name == "web":
            languages = measure_languages(ours, texts, lists.to_pylist())
    return {"sources": found, **languages}


def measure_languages(ours: Labeler, texts: list[str], labels: list[list[int]]) -> dict[str, object]:
    """Share of the labels that fall on texts that a detector takes for another language."""
    if importlib.util.find_spec("py3langid") is None:
        sys.stdout.write("languages are not judged: no package py3langid\n")
        return {"web_foreign_label_share": None}
    judged = [language_of(text) for text in texts]
    counts = np.array([len(found) for found in labels])
    english = np.array([language == "en" for language, _ in judged])
    sure = np.array([probability for _, probability in judged])
    for threshold in (0.5, CONFIDENT, 0.95):
        foreign = ~english & (sure >= threshold)
        sys.stdout.write(
            f"  not English by py3langid, probability {threshold} and more: {int(foreign.sum()):,} texts, "
            f"{int((counts[foreign] > 0).sum()):,} of them with labels; {counts[foreign].sum() / counts.sum():.2%} of "
            f"all labels\n"
        )
    foreign, native = ~english & (sure >= CONFIDENT), english & (sure >= CONFIDENT)
    sys.stdout.write(
        f"  English by py3langid, probability {CONFIDENT} and more: {int(native.sum()):,} texts, "
        f"{int((counts[native] == 0).sum()):,} of them without a label\n"
    )
    languages = collections.Counter(judged[i][0] for i in np.flatnonzero(foreign & (counts > 0)))
    sys.stdout.write(f"  languages of those with labels: {languages.most_common(20)}\n")
    for title, mask in (
        ("not English, labelled", foreign & (counts > 0)),
        ("English, not labelled", native & (counts == 0)),
    ):
        for i in evenly(np.flatnonzero(mask).tolist(), SHOWN):
            found = " ".join(name_of(ours, synset) for synset in labels[i])
            sys.stdout.write(f"  {title}: {judged[i][0]} {texts[i][:120]!r} {found}\n")
    return {
        "web_foreign_texts": int(foreign.sum()),
        "web_foreign_texts_labelled": int((counts[foreign] > 0).sum()),
        "web_foreign_label_share": round(float(counts[foreign].sum() / counts.sum()), 4),
        "web_english_texts": int(native.sum()),
        "web_english_texts_not_labelled": int((counts[native] == 0).sum()),
    }


def language_of(text: str) -> tuple[str, float]:
    """The detector's language of a text, without its addresses and entities, and its probability."""
    language, probability = detector().classify(FILE.sub(" ", HOST.sub(" ", ADDRESS.sub(" ", html.unescape(text)))))
    return str(language), float(probability)


@cache
def detector() -> Any:
    """py3langid's identifier of LANGUAGES, with probabilities that add up to one."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier


def measure(options: LabelQuality) -> dict[str, object]:
    """Measure the parts that were asked for; prints as it goes, returns the JSON object."""
    ours = labeler.load()
    gold, parts = options.data / "gold", options.parts
    result: dict[str, object] = {}
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
