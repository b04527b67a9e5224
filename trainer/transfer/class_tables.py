"""Class-by-class tables: what every class starts from with Transfer Init, and what scores it in zero-shot.

| class | synsets | starts from | similarity | remarks |
|---|---|---|---|---|
| tench, Tinca tinca | tench (n01440764) | fish (n02512053) | 0.25 | starts like goldfish |
| zzyzx | | random | | no synset |
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.records.classes import ClassScores
from trainer.records.record import score_text
from trainer.transfer.synset_scores import ClassRows, ZeroShotResult
from trainer.transfer.transfer_init import BELOW_ALPHA, NO_SYNSET, ClassMatch
from vocab import wordnet
from vocab.pages.tables import csv_table, markdown_list, markdown_table
from vocab.pages.text import counted, listed
from vocab.vocabulary import Vocabulary

FORMAT_VERSION = 1
STEM = "transfer_init"
HEADER = ("class", "synsets", "starts from", "similarity", "remarks")
SCORED_HEADER = ("class", "synsets", "matches", "similarities", "hyponyms", "shared_with", "rows", "images")
CSV_HEADER = ("class", "synsets", "matches", "similarities", "nearest", "reason", "shared_with", "starts_like")


def write_matches(matches: Sequence[ClassMatch], folder: Path, *, alpha: float) -> None:
    """Write transfer_init.md, .csv and .json into a folder."""
    (folder / f"{STEM}.md").write_text(match_page(matches, alpha=alpha), encoding="utf-8")
    (folder / f"{STEM}.csv").write_text(match_csv(matches), encoding="utf-8")
    content = {"version": FORMAT_VERSION, "alpha": alpha, "classes": list(map(vars, matches))}
    (folder / f"{STEM}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def match_summary(matches: Sequence[ClassMatch], *, alpha: float) -> list[str]:
    """Sum up Transfer Init: how many classes start from rows, how many at random and why, how many alike."""
    exact = sum(bool(match.matches) and all(found == 1 for _, found in match.matches) for match in matches)
    matched = sum(bool(match.matches) for match in matches)
    of = f"of {counted(len(matches), 'class', 'classes')}"
    lines = [
        f"{counted(matched, f'{of} starts', f'{of} start')} from pre-trained rows at path similarity >= {alpha:g}, "
        f"{exact:,} of them from their own synset's."
    ]
    for reason, count in sorted(Counter(match.reason for match in matches if match.reason).items()):
        names = [match.name for match in matches if match.reason == reason]
        lines.append(f"{count:,} at random, {reason}: {listed(names)}.")
    shared = [match.name for match in matches if match.shared_with]
    if shared:
        lines.append(f"{len(shared):,} have the same synsets as another class: {listed(shared)}.")
    alike = [match.name for match in matches if match.starts_like and not match.shared_with]
    if alike:
        more = counted(len(alike), "more starts", "more start")
        lines.append(f"{more} from the same rows as another class: {listed(alike)}.")
    return lines


def no_match_note(matches: Sequence[ClassMatch]) -> list[str]:
    """Write a note where Transfer Init was asked for and no class of the task gets a pre-trained row."""
    if not matches or any(match.matches for match in matches):
        return []
    counts = Counter(match.reason for match in matches)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    none = counted(len(matches), "class starts", "classes start")
    remedies = {
        NO_SYNSET: "--task.class-names gives names",
        BELOW_ALPHA: "a lower --alpha takes rows of less similar synsets, or pre-train with a vocabulary that has "
        "these classes",
    }
    remedy = "; ".join(text for reason, text in remedies.items() if counts[reason])
    return [f"Transfer Init found no pre-trained row, and {none} at random ({reasons}): {remedy}"]


def match_page(matches: Sequence[ClassMatch], *, alpha: float) -> str:
    """Write the summary, and a row for every class, as Markdown."""
    table = markdown_table(HEADER, map(_match_row, matches))
    return f"# Transfer Init\n\n{markdown_list(match_summary(matches, alpha=alpha))}\n\n{table}\n"


def match_csv(matches: Sequence[ClassMatch]) -> str:
    """Write a row for every class; semicolons separate several values of a field."""
    rows = []
    for match in matches:
        nearest = [f"{wnid} {similarity:.4f}" for wnid, similarity in match.nearest]
        wnids = [wnid for wnid, _ in match.matches]
        similarities = [f"{similarity:.4f}" for _, similarity in match.matches]
        several = (match.shared_with, match.starts_like)
        fields = [match.synsets, wnids, similarities, nearest, [match.reason or ""], *several]
        rows.append((match.name, *("; ".join(field) for field in fields)))
    return csv_table(CSV_HEADER, rows)


def spelt(wnid: str) -> str:
    """ "n02084071" -> "dog (n02084071)"."""
    nouns = wordnet.load()
    word = nouns.words_of(nouns.row_of(wordnet.synset_of_wnid(wnid)))[0]
    return f"{word.replace('_', ' ')} ({wnid})"


def scored_json(
    result: ZeroShotResult, matches: Sequence[ClassMatch], classes: Sequence[ClassRows], vocabulary: Vocabulary
) -> list[dict[str, Any]]:
    """Convert to objects for results.json: what scored each class, and how well."""
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


def scored_table(
    result: ZeroShotResult, matches: Sequence[ClassMatch], classes: Sequence[ClassRows], vocabulary: Vocabulary
) -> str:
    """Write a Markdown table with a row for every class: what scores it, and how well."""
    value = "average precision" if result.report.map_macro_all is not None else "top-1"
    rows = [
        _scored_row(match, rows, score_text(result.report.metric[0], share), vocabulary)
        for match, rows, share in zip(matches, classes, result.by_class, strict=True)
    ]
    return markdown_table(("class", "synsets", "scored by", "similarity", value), rows)


def scored_classes(
    result: ZeroShotResult, matches: Sequence[ClassMatch], classes: Sequence[ClassRows], vocabulary: Vocabulary
) -> ClassScores:
    """List what scores each class, and how well; semicolons separate several values of a field.

    Column `rows` counts the rows that score the class; `matches` are the rows of its synsets or of similar ones, with
    their `similarities`.
    """
    rows: list[tuple[str | int, ...]] = []
    for match, scored_by, images in zip(matches, classes, result.images_by_class.tolist(), strict=True):
        count = len({label for group in scored_by.groups for label in group})
        wnids, similarities = [wnid for wnid, _ in match.matches], [f"{found:.4f}" for _, found in match.matches]
        several = (match.synsets, wnids, similarities, _hyponyms(match, scored_by, vocabulary), match.shared_with)
        rows.append((match.name, *("; ".join(field) for field in several), count, images))
    score = "average_precision" if result.correct is None else "accuracy"
    scores = [math.nan if value is None else value for value in result.by_class]
    return ClassScores((*SCORED_HEADER, score), rows, scores)


def unscored_notes(matches: Sequence[ClassMatch], classes: Sequence[ClassRows]) -> list[str]:
    """Write notes on classes that cannot be scored, and on classes that are scored alike."""
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


def one_choice_note(classes: Sequence[ClassRows]) -> list[str]:
    """Write a note where all scorable classes are scored alike, so that one of them always comes first."""
    scorable = [rows.groups for rows in classes if rows.scorable]
    if len(set(scorable)) > 1:
        return []
    of = f"{len(scorable):,} of {counted(len(classes), 'class', 'classes')} can be scored,"
    alike = " all by the same rows, and the first" if len(scorable) > 1 else " and"
    return [f"{of}{alike} comes first in every image: accuracy says nothing of the model."]


def _scored_row(match: ClassMatch, rows: ClassRows, score: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    below = _hyponyms(match, rows, vocabulary)
    by = [spelt(wnid) for wnid, _ in match.matches]
    if below:
        by.append(f"{counted(len(below), 'hyponym')}: {listed(list(map(spelt, below)))}")
    similarities = ", ".join(f"{similarity:.2f}" for _, similarity in match.matches)
    return match.name, ", ".join(map(spelt, match.synsets)), ", ".join(by), similarities, score


def _hyponyms(match: ClassMatch, rows: ClassRows, vocabulary: Vocabulary) -> list[str]:
    """Wnids of the rows that score a class, but for the matches of its own synsets."""
    matched = {wnid for wnid, _ in match.matches}
    wnids = dict.fromkeys(vocabulary.wnids[label] for group in rows.groups for label in group)
    return [wnid for wnid in wnids if wnid not in matched]


def _match_row(match: ClassMatch) -> tuple[str, ...]:
    remarks = []
    if match.reason:
        remarks.append(match.reason)
        remarks += [f"nearest {spelt(wnid)} at {similarity:.2f}" for wnid, similarity in match.nearest]
    if match.shared_with:
        remarks.append(f"same synsets as {listed(match.shared_with)}")
    alike = [name for name in match.starts_like if name not in match.shared_with]
    if alike:
        remarks.append(f"starts like {listed(alike)}")
    return (
        match.name,
        ", ".join(map(spelt, match.synsets)),
        ", ".join(spelt(wnid) for wnid, _ in match.matches) or "random",
        ", ".join(f"{similarity:.2f}" for _, similarity in match.matches),
        "; ".join(remarks),
    )
