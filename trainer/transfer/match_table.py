"""Transfer Init's table: what every class of a task starts from, and which start at random.

In: `ClassMatch`es. Out: the table for people (Markdown), for spreadsheets (CSV) and for programs (JSON).

    | class | synsets | starts from | similarity | |
    | tench, Tinca tinca | tench (n01440764) | fish (n02512053) | 0.25 | like goldfish |
    | zzyzx | | random | | no synset |
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.transfer.transfer_init import ClassMatch
from vocab import wordnet
from vocab.pages.tables import markdown_list, markdown_table
from vocab.pages.text import counted, listed

FORMAT_VERSION = 1
STEM = "transfer_init"
HEADER = ("class", "synsets", "starts from", "similarity", "remarks")
CSV_HEADER = ("class", "synsets", "matches", "similarities", "nearest", "reason", "shared_with", "starts_like")


def write_matches(matches: Sequence[ClassMatch], folder: Path, *, alpha: float) -> None:
    """transfer_init.md, .csv and .json in a folder, which is to get its own name afterwards."""
    (folder / f"{STEM}.md").write_text(markdown(matches, alpha=alpha), encoding="utf-8")
    (folder / f"{STEM}.csv").write_text(csv_table(matches), encoding="utf-8")
    content = {"version": FORMAT_VERSION, "alpha": alpha, "classes": as_json(matches)}
    (folder / f"{STEM}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def summary(matches: Sequence[ClassMatch], *, alpha: float) -> list[str]:
    """The table in a few lines: how many classes start from rows, how many at random and why, how many alike."""
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


def no_match(matches: Sequence[ClassMatch]) -> list[str]:
    """A note for the results where Transfer Init was asked for and no class of the task gets a pre-trained row."""
    if not matches or any(match.matches for match in matches):
        return []
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in Counter(match.reason for match in matches).items())
    none = counted(len(matches), "class starts", "classes start")
    return [f"Transfer Init found no pre-trained row, and {none} at random ({reasons}): --task.class-names gives names"]


def markdown(matches: Sequence[ClassMatch], *, alpha: float) -> str:
    """Summary, and a row for every class."""
    table = markdown_table(HEADER, map(_cells, matches))
    return f"# Transfer Init\n\n{markdown_list(summary(matches, alpha=alpha))}\n\n{table}\n"


def csv_table(matches: Sequence[ClassMatch]) -> str:
    """A row for every class; several values of a field stand between semicolons."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for match in matches:
        nearest = [f"{wnid} {similarity:.4f}" for wnid, similarity in match.nearest]
        wnids = [wnid for wnid, _ in match.matches]
        similarities = [f"{similarity:.4f}" for _, similarity in match.matches]
        several = (match.shared_with, match.starts_like)
        fields = [match.synsets, wnids, similarities, nearest, [match.reason or ""], *several]
        writer.writerow([match.name, *("; ".join(field) for field in fields)])
    return buffer.getvalue()


def as_json(matches: Sequence[ClassMatch]) -> list[dict[str, Any]]:
    """An object for every class, under the names of `ClassMatch`'s fields."""
    return [vars(match) for match in matches]


def spelt(wnid: str) -> str:
    """ "n02084071" -> "dog (n02084071)"."""
    nouns = wordnet.load()
    word = nouns.words_of(nouns.row_of(wordnet.synset_of_wnid(wnid)))[0]
    return f"{word.replace('_', ' ')} ({wnid})"


def _cells(match: ClassMatch) -> tuple[str, ...]:
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
