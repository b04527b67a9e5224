"""Rules, written by hand, for what a picture can show, compiled to one mark for each synset.

In: `depictable.txt` beside this module, whose head explains its lines. Out: marks by row of WordNet.

    yes noun.artifact                the synsets of a lexicographer file
    no names of noun.person          those of them that are individuals
    yes vegetation.n.01+             a synset and everything below it
    no photograph.n.01 day.n.01      synsets
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocab.errors import FormatError
from vocab.synset_names import remedy_for, synset_named
from vocab.taxonomy import hypernym_edges
from vocab.wordnet import LEXICOGRAPHER_FILES, WordNet

RULES_FILE = Path(__file__).parent / "depictable.txt"
VERDICTS = {"yes": True, "no": False}
NAMES_OF = "names of "
FILE = "noun."
SUBTREE = "+"
OUT_OF_REACH = 255
"""steps to a rule that does not stand above a synset"""


def marks_of(text: str, wordnet: WordNet) -> NDArray[np.bool_]:
    """Compile the rules to marks [S].

    The nearest rule wins: a synset's own line, the first subtree on the way up, the names of its file, its file. Of two
    subtrees at equal steps that disagree, the one that says yes. Raises FormatError for a line that cannot be read, a
    synset or file with two verdicts, and a lexicographer file without any.
    """
    rules = _rules(text)
    file_numbers = {name: number for number, name in LEXICOGRAPHER_FILES.items()}
    unknown = [
        rule for rule in rules if FILE in rule and rule.removeprefix(NAMES_OF).removeprefix(FILE) not in file_numbers
    ]
    if unknown:
        raise _bad(
            unknown[0], found="no such lexicographer file", wanted=", ".join(FILE + name for name in file_numbers)
        )
    by_file = np.zeros(max(LEXICOGRAPHER_FILES) + 1, dtype=bool)
    missing = [name for name in file_numbers if FILE + name not in rules]
    if missing:
        raise _bad("the rules", found=f"no line for {FILE}{missing[0]}", wanted="a line for each lexicographer file")
    for name, number in file_numbers.items():
        by_file[number] = rules[FILE + name]
    marks = by_file[wordnet.lexicographer_files]
    is_name = np.diff(wordnet.instance_starts) > 0
    for name, number in file_numbers.items():
        if NAMES_OF + FILE + name in rules:
            marks[is_name & (wordnet.lexicographer_files == number)] = rules[NAMES_OF + FILE + name]
    synsets = {rule: verdict for rule, verdict in rules.items() if FILE not in rule}
    subtrees = {rule.removesuffix(SUBTREE): verdict for rule, verdict in synsets.items() if rule.endswith(SUBTREE)}
    yes, no = (
        steps_below(wordnet, [_row(wordnet, rule) for rule, verdict in subtrees.items() if verdict is wanted])
        for wanted in (True, False)
    )
    is_below = np.minimum(yes, no) < OUT_OF_REACH
    marks[is_below] = (yes <= no)[is_below]
    for rule, verdict in synsets.items():
        if not rule.endswith(SUBTREE):
            marks[_row(wordnet, rule)] = verdict
    return marks


def steps_below(wordnet: WordNet, roots: list[int]) -> NDArray[np.uint8]:
    """Fewest steps [S] from each synset up to one of the roots, 0 at a root itself, `OUT_OF_REACH` for others."""
    children, parents = hypernym_edges(wordnet)
    steps = np.full(len(wordnet.synsets), OUT_OF_REACH, dtype=np.uint8)
    steps[roots] = 0
    while True:
        fewer = steps.copy()
        reached = np.flatnonzero(steps[parents] < OUT_OF_REACH)
        np.minimum.at(fewer, children[reached], steps[parents[reached]] + 1)
        if np.array_equal(fewer, steps):
            return steps
        steps = fewer


def _rules(text: str) -> dict[str, bool]:
    """Verdict of each rule, in the order of the lines."""
    found: dict[str, bool] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word not in VERDICTS:
            raise _bad(repr(line), found=repr(word), wanted="yes or no")
        for rule in _subjects(rest.strip()):
            if rule in found:
                raise _bad(repr(line), found=f"{rule} once more", wanted="one line for each")
            found[rule] = VERDICTS[word]
    return found


def _subjects(text: str) -> Iterator[str]:
    if text.startswith(NAMES_OF):
        yield text
    else:
        yield from text.split()


def _row(wordnet: WordNet, name: str) -> int:
    synset = synset_named(name)
    if synset is None:
        raise _bad(name, found="no such synset", wanted="a synset of WordNet 3.0", remedy=remedy_for(name))
    return wordnet.row_of(synset)


def _bad(thing: str, *, found: str, wanted: str, remedy: str = "Mend the line.") -> FormatError:
    return FormatError(f"{RULES_FILE.name}: {thing}", found=found, wanted=wanted, remedy=remedy)
