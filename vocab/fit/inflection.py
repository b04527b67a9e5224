"""Every single word that WordNet knows, with its inflected forms, and as which parts of speech.

Read when the tagger is trained, never when captions are labelled.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from vocab.fit.wordnet_files import parse_sense, read_exceptions, read_lines

NOUN, VERB, ADJECTIVE, ADVERB = "1", "2", "3", "4"
FILES = {NOUN: "noun", VERB: "verb", ADJECTIVE: "adj", ADVERB: "adv"}

# An inflected form stands for about this share of the uses of its base, which is all that WordNet counts.
INFLECTED_SHARE = {NOUN: 0.3, VERB: 0.25, ADJECTIVE: 0.25, ADVERB: 0.25}
# Below this many tagged uses a share says nothing.
COUNTED = 3
SHARE_STEPS = 5


@dataclass
class Readings:
    """Parts of speech that a word can have, as itself and as a form of other words, with the tagged uses of each."""

    itself: set[str] = field(default_factory=set)
    inflected: set[str] = field(default_factory=set)
    uses: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def parts_of_speech(self) -> set[str]:
        """All parts of speech, as itself or as a form of another word."""
        return self.itself | self.inflected

    @property
    def kind(self) -> str:
        """One short name for words that can be the same: `"12.2.3"` is noun or verb, a form of a verb, 3/5 nouns."""
        total = sum(self.uses.values())
        share = "-" if total < COUNTED else str(min(SHARE_STEPS - 1, int(SHARE_STEPS * self.uses[NOUN] / total)))
        return f"{''.join(sorted(self.itself))}.{''.join(sorted(self.inflected))}.{share}"


def read_readings(folder: Path) -> dict[str, Readings]:
    """Lemmas of one word and their regular and irregular forms. Raises InputError for a missing file."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for lemma, pos, _, count in map(parse_sense, read_lines(folder, "index.sense")):
        counts[lemma, pos] += count
    words: dict[str, Readings] = defaultdict(Readings)
    for pos, name in FILES.items():
        lemmas = [line.split(" ", 1)[0] for line in read_lines(folder, f"index.{name}")]
        single = {lemma for lemma in lemmas if re.fullmatch("[a-z]+", lemma)}
        for lemma in sorted(single):
            words[lemma].itself.add(pos)
            words[lemma].uses[pos] += counts[lemma, pos]
        forms = {(form, lemma) for lemma in single for form in inflected_forms(lemma, pos)}
        irregular = {
            (form, base)
            for form, bases in read_exceptions(folder, f"{name}.exc").items()
            for base in bases
            if base in single
        }
        for form, base in sorted(forms | irregular):
            if re.fullmatch("[a-z]+", form) and form != base:
                words[form].inflected.add(pos)
                words[form].uses[pos] += INFLECTED_SHARE[pos] * counts[base, pos]
    return dict(words)


def inflected_forms(lemma: str, pos: str) -> list[str]:
    """Regular forms: dog -> dogs; stop -> stops, stopping, stopped; nice -> nicer, nicest."""
    if pos == NOUN:
        return plurals(lemma)
    if pos == VERB:
        return [plural(lemma), *(stem + ending for ending in ("ing", "ed") for stem in stems(lemma, ending))]
    if pos == ADJECTIVE and len(lemma) <= 6:
        return [stem + ending for ending in ("er", "est") for stem in stems(lemma, ending)]
    return []


def plural(lemma: str) -> str:
    """The regular plural, which is also a verb's third person: box -> boxes, city -> cities, dog -> dogs."""
    if re.search("(?:s|x|z|ch|sh)$", lemma):
        return lemma + "es"
    if re.search("[^aeiou]y$", lemma):
        return lemma[:-1] + "ies"
    return lemma + "s"


def plurals(lemma: str) -> list[str]:
    """All regular plurals: monarch -> monarches and monarchs (spelling does not tell which), snowman -> snowmen."""
    found = [plural(lemma)]
    if lemma.endswith("ch"):
        found.append(lemma + "s")
    if lemma.endswith("man"):
        found.append(lemma[:-3] + "men")
    if lemma.endswith("erby"):
        found.append(lemma[:-2] + "sby")
    return found


def stems(lemma: str, ending: str) -> list[str]:
    """Stems that an ending is added to: bake -> bak, stop -> stopp and stop (spelling does not tell which)."""
    if lemma.endswith("ie") and ending == "ing":
        return [lemma[:-2] + "y"]
    if lemma.endswith("e") and not lemma.endswith(("ee", "oe", "ye")):
        return [lemma[:-1]]
    if lemma.endswith("e"):
        return [lemma if ending == "ing" else lemma[:-1]]
    if re.search("[^aeiou]y$", lemma) and ending != "ing":
        return [lemma[:-1] + "i"]
    if re.search("[^aeiou][aeiou][bdfgklmnprtvz]$", lemma):
        return [lemma + lemma[-1], lemma]
    return [lemma]
