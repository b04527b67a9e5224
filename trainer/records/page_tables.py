"""Tables of a run's page: the best and worst classes, the vocabulary, the account of samples.

In: a vocabulary, an `Evaluation`, the run's results. Out: HTML, in which every word from elsewhere is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainer.evaluation import Evaluation
from vocab.pages.text import in_html
from vocab.vocabulary import Vocabulary

LISTED_CLASSES = 10
# A page with 24,320 rows helps nobody; vocabulary.parquet has them all.
LISTED_VOCABULARY = 1000


def class_table(vocabulary: Vocabulary, result: Evaluation) -> str:
    """The classes of highest and of lowest average precision."""
    precision = result.class_precision.tolist()
    counts = _positives(vocabulary, result)
    known = sorted((label for label in range(len(vocabulary)) if counts[label]), key=lambda label: -precision[label])

    def table(title: str, labels: Iterable[int]) -> str:
        rows = [
            (vocabulary.names[label], f"{precision[label]:.3f}", f"{counts[label] / result.report.images:.3f}")
            for label in labels
        ]
        head = ("class", "average precision", "its share of images")
        return f"<div><h3>{title}</h3>{_table(head, rows, numbers=(1, 2))}</div>"

    best, worst = known[:LISTED_CLASSES], known[::-1][:LISTED_CLASSES]
    return (
        "<h2>Best and worst classes</h2><p class=soft>A model that knows frequencies only has a class's share of "
        f"images as its average precision.</p><div class=halves>{table('Best', best)}{table('Worst', worst)}</div>"
    )


def vocabulary_table(vocabulary: Vocabulary, result: Evaluation) -> str:
    """The most frequent classes, folded away."""
    precision, counts = result.class_precision.tolist(), _positives(vocabulary, result)
    rows = [
        (
            str(label),
            vocabulary.names[label],
            vocabulary.wnids[label],
            f"{int(vocabulary.captions[label]):,}",
            f"{counts[label]:,}",
            f"{precision[label]:.3f}" if counts[label] else "-",
        )
        for label in range(min(len(vocabulary), LISTED_VOCABULARY))
    ]
    head = ("label", "synset", "wnid", "captions", "held-out images", "average precision")
    rest = len(vocabulary) - len(rows)
    more = f"<p class=soft>and {rest:,} more in vocabulary.parquet</p>" if rest else ""
    return (
        f"<h2>Vocabulary</h2><details open><summary>{len(vocabulary):,} synsets seen in at least "
        f"{vocabulary.min_count:,} of {vocabulary.rows:,} captions</summary>"
        f"<div class=wide>{_table(head, rows, numbers=(0, 3, 4, 5))}</div>{more}</details>"
    )


def account_table(results: Mapping[str, Any]) -> str:
    """What became of the samples, in training and in the evaluation."""
    meanings = {
        "samples": "samples visited",
        "bad": "bad: no image, or one that cannot be used (bad_samples.jsonl)",
        "truncated": "truncated: images that break off, taken as far as they go",
        "unmatched": "unmatched: no row in the labels",
        "unlabelled": "unlabelled: a caption without a noun of WordNet",
        "surplus_labels": "rows of the labels whose sample the tar lacks",
    }
    training, held_out = results["training_account"], results["evaluation_account"]
    rows = [(meaning, f"{training.get(n, 0):,}", f"{held_out.get(n, 0):,}") for n, meaning in meanings.items()]
    return (
        "<h2>Account of samples</h2><p class=soft>Training counts every epoch.</p>"
        f"<div class=wide>{_table(('', 'training', 'held out'), rows, numbers=(1, 2))}</div>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        mark = dict.fromkeys(numbers, " class=number")
        return "".join(f"<{tag}{mark.get(place, '')}>{in_html(cell)}</{tag}>" for place, cell in enumerate(cells))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{line(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _positives(vocabulary: Vocabulary, result: Evaluation) -> list[int]:
    counts: list[int] = result.positives.bincount(minlength=len(vocabulary)).tolist()
    return counts
