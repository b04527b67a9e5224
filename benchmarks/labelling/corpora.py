"""Most frequent labels of each corpus, and labels that fall on texts in another language than English.

In: captions and a labeler. Out: shares, with examples on the terminal.
"""

from __future__ import annotations

import collections
import html
import importlib.util
import sys
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.labelling.nouns import SHOWN
from benchmarks.labelling.sources import evenly
from vocab.cleaning import ADDRESS, FILE, HOST
from vocab.labeler import Labeler

HEAD = 50
"""most frequent labels of a corpus to print"""
LANGUAGES = "en de fr es pt it nl da sv no fi pl cs sk hu ro bg el ru uk tr ar he fa hi bn th vi id ja ko zh".split()
"""languages that the detector chooses from: of a hundred, short titles are taken for Nigerian Pidgin and Latin"""
CONFIDENT = 0.8
"""probability from which the detector's language counts; a quarter of such texts are English with foreign names"""


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


def name_of(ours: Labeler, synset: int) -> str:
    """A synset's usual name."""
    return ours.nouns.name_of(ours.nouns.row_of(synset))
