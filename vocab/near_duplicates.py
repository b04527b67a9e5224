"""Synsets that captions use for the same thing, and that may share one class: girl, lass, female child.

In: `vocab/lists/near-duplicates.txt`, written by hand; its head says what belongs together. Out: groups of offsets.
The rule of a merge: the synset of a group that most captions hold is the class, and stands for all of the group.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from vocab.errors import FormatError
from vocab.synset_names import remedy_for, synset_named

LIST = "near-duplicates.txt"


@cache
def load() -> tuple[tuple[int, ...], ...]:
    """Groups of two or more synset offsets; no synset is in two."""
    return groups_in(resources.files("vocab").joinpath("lists", LIST).read_text(encoding="utf-8"))


def groups_in(text: str) -> tuple[tuple[int, ...], ...]:
    """Parse the list. Raises FormatError for an unknown synset, one that stands twice, and a line with a single one."""
    groups: list[tuple[int, ...]] = []
    seen: set[int] = set()
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        group: list[int] = []
        for name in line.split():
            synset = synset_named(name)
            if synset is None or synset in seen:
                raise FormatError(
                    f"{LIST}: {name}",
                    found="no such synset" if synset is None else "once more",
                    wanted="synsets of WordNet 3.0, each once",
                    remedy=remedy_for(name) if synset is None else "Leave one of the two out.",
                )
            seen.add(synset)
            group.append(synset)
        if len(group) < 2:
            raise FormatError(f"{LIST}: {line}", found="one synset", wanted="two or more", remedy="Mend the line.")
        groups.append(tuple(group))
    return tuple(groups)
