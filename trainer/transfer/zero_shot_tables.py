"""What zero-shot classification leaves: its numbers, and by which rows every class of the task was scored.

In: `ZeroShotResult`, and what each class matches. Out: the content of its files.

    results.json   results.md      the numbers, and what they are of
    classes.csv                    a row for every class of the task
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from trainer.transfer.match_table import spelt
from trainer.transfer.synset_scores import ClassRows
from trainer.transfer.transfer_init import ClassMatch
from trainer.transfer.zero_shot_results import ZeroShotResult
from vocab.pages.tables import in_markdown, markdown_list, markdown_table
from vocab.pages.text import counted, listed
from vocab.vocabulary import Vocabulary


def as_json(
    result: ZeroShotResult, matches: Sequence[ClassMatch], classes: Sequence[ClassRows], vocabulary: Vocabulary
) -> list[dict[str, Any]]:
    """What scored each class and how well, as results.json has it."""
    return [
        {
            "name": match.name,
            "synsets": match.synsets,
            "rows": [[vocabulary.wnids[label] for label in group] for group in rows.groups],
            "matches": match.matches,
            "shared_with": match.shared_with,
            "value": value,
        }
        for match, rows, value in zip(matches, classes, result.by_class, strict=True)
    ]


def markdown(
    result: ZeroShotResult,
    matches: Sequence[ClassMatch],
    classes: Sequence[ClassRows],
    vocabulary: Vocabulary,
    *,
    title: str,
    notes: Sequence[str],
) -> str:
    """The content of results.md. `notes`: what whoever reads the numbers should know."""
    report = result.report
    several = report.map_macro_all is not None
    numbers = [
        ("classes", f"{report.scorable_classes:,}", f"{report.classes:,}"),
        ("images", f"{report.images if several else report.scorable_images:,}", f"{report.images:,}"),
    ]
    numbers += [
        (name, _percent(one), _percent(every))
        for name, one, every in (
            ("top-1 accuracy", report.top1, report.top1_all),
            ("top-5 accuracy", report.top5, report.top5_all),
            ("mean average precision, macro", report.map_macro, report.map_macro_all),
            ("mean average precision, micro", report.map_micro, report.map_micro_all),
        )
        if one is not None or every is not None
    ]
    value = "average precision" if several else "top-1"
    rows = [
        _row(match, rows, share, vocabulary)
        for match, rows, share in zip(matches, classes, result.by_class, strict=True)
    ]
    parts = [
        f"# {in_markdown(title)}",
        markdown_table(("", "scorable classes", "all classes"), numbers),
        markdown_list(notes),
        markdown_table(("class", "synsets", "scored by", "similarity", value), rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _row(match: ClassMatch, rows: ClassRows, share: float | None, vocabulary: Vocabulary) -> tuple[str, ...]:
    below = _hyponyms(match, rows, vocabulary)
    by = [spelt(wnid) for wnid, _ in match.matches]
    if below:
        by.append(f"{counted(len(below), 'hyponym')}: {listed(list(map(spelt, below)))}")
    similarities = ", ".join(f"{similarity:.2f}" for _, similarity in match.matches)
    return match.name, ", ".join(map(spelt, match.synsets)), ", ".join(by), similarities, _percent(share)


def remarks(matches: Sequence[ClassMatch], classes: Sequence[ClassRows]) -> list[str]:
    """Which classes cannot be scored, and which are scored alike."""
    pairs = list(zip(matches, classes, strict=True))
    nameless = [match.name for match, rows in pairs if not rows.scorable and not match.synsets]
    absent = [match.name for match, rows in pairs if not rows.scorable and match.synsets]
    seen: dict[tuple[tuple[int, ...], ...], int] = {}
    for _, rows in pairs:
        seen[rows.groups] = seen.get(rows.groups, 0) + 1
    alike = [match.name for match, rows in pairs if rows.scorable and seen[rows.groups] > 1]
    groups = (
        (nameless, "class has no synset by its name", "classes have no synset by their names"),
        (absent, "class has a synset that the vocabulary lacks", "classes have synsets that the vocabulary lacks"),
        (alike, "", "classes are scored by the same rows as another, so that the first of them always comes before it"),
    )
    return [f"{counted(len(names), one, many)}: {listed(names)}." for names, one, many in groups if names]


def no_choice(classes: Sequence[ClassRows]) -> list[str]:
    """A remark where all classes that can be scored are scored alike, so that one of them always comes first."""
    scorable = [rows.groups for rows in classes if rows.scorable]
    if len(set(scorable)) > 1:
        return []
    of = f"{len(scorable):,} of {counted(len(classes), 'class', 'classes')} can be scored,"
    alike = " all by the same rows, and the first" if len(scorable) > 1 else " and"
    return [f"{of}{alike} comes first in every image: accuracy says nothing of the model."]


def csv_table(
    result: ZeroShotResult, matches: Sequence[ClassMatch], classes: Sequence[ClassRows], vocabulary: Vocabulary
) -> str:
    """The content of classes.csv; several values of a field stand between semicolons.

    `rows`: how many score the class. `matches`: those of its synsets or of similar ones, with their `similarities`.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("class", "synsets", "rows", "matches", "similarities", "hyponyms", "value", "shared_with"))
    for match, rows, value in zip(matches, classes, result.by_class, strict=True):
        shown = "" if value is None else f"{value:.6f}"
        count = len({label for group in rows.groups for label in group})
        wnids, similarities = [wnid for wnid, _ in match.matches], [f"{found:.4f}" for _, found in match.matches]
        before, after = (match.synsets, wnids, similarities, _hyponyms(match, rows, vocabulary)), match.shared_with
        synsets, *by = ("; ".join(field) for field in before)
        writer.writerow((match.name, synsets, count, *by, shown, "; ".join(after)))
    return buffer.getvalue()


def _hyponyms(match: ClassMatch, rows: ClassRows, vocabulary: Vocabulary) -> list[str]:
    """Wnids of the rows that score a class beside those that its synsets match."""
    matched = {wnid for wnid, _ in match.matches}
    wnids = dict.fromkeys(vocabulary.wnids[label] for group in rows.groups for label in group)
    return [wnid for wnid in wnids if wnid not in matched]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
