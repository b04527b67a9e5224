"""The scores that the tagger's tables give to many words at once.

In: a `Tagger` and the `Context` of a batch. Out: for each word that is asked about, a score for each `Tag`. They are
the sums of all features that `plain.features` lists, with fewer look-ups: the features of an *ordinary* word (a space
on either side, or a sign that parts phrases; no telling capitals) are added beforehand to tables that every word looks
up; only the other words get a second pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocab.arrays import among
from vocab.context import CASES, END, GAPS, Case, Context
from vocab.tagger import PROFILE_OF_CASE, STRONG_GAPS, WINDOW, Tag, Tagger, lanes, pack_lanes
from vocab.tokens import Gap

ORDINARY = (Case.UNTOLD, Case.LOWER, Case.TITLE_CAPITAL)
"""the ordinary cases; a caption has one of them, and few words in another"""
ORDINARY_OF_CASE = np.zeros(CASES, dtype=np.int64)
ORDINARY_OF_CASE[[Case.LOWER, Case.CAPITAL, Case.UPPER, Case.FIRST_CAPITAL, Case.FIRST_UPPER]] = 1
ORDINARY_OF_CASE[[Case.TITLE_LOWER, Case.TITLE_CAPITAL, Case.TITLE_UPPER]] = 2
ODD_CASES = tuple(case for case in Case if case not in (*ORDINARY, Case.NONE))
ODD_GAPS = tuple(gap for gap in range(GAPS) if gap not in (Gap.SPACE, *STRONG_GAPS))
ORDINARY_GAP = np.arange(GAPS)
ORDINARY_GAP[list(ODD_GAPS)] = Gap.SPACE

CLASS_BITS = 16
"""bits of a class, below the beginning of a profile"""
# A profile here: the window's five columns, then the word's own, complete, in each case of PROFILE_OF_CASE.
OWN = WINDOW.index(0)
PROFILE = len(WINDOW) + len(PROFILE_OF_CASE)
COLUMN_OF_CASE = np.full(CASES, OWN, dtype=np.int64)
COLUMN_OF_CASE[list(PROFILE_OF_CASE)] = list(PROFILE_OF_CASE.values())


@dataclass(frozen=True, eq=False)
class Profiled:
    """The words of a batch with what the tables say of each by itself: looked up once, then read from places around."""

    context: Context
    profiles: NDArray[np.int64]
    """[places] where the word's profile begins in `Scorer.profiles`"""
    classes: NDArray[np.int64]
    """[places]"""
    odd: NDArray[np.bool_]
    """[places] words that are not ordinary"""


@dataclass(frozen=True, eq=False)
class Scorer:
    """Flat tables. K classes; S sides: the class of a neighbour, or K + gap where the gap is strong.

    The tables with O parts hold one for each of the `ORDINARY` cases.
    """

    classes: int
    profile_and_class: NDArray[np.int64]
    """[W] where a word's profile begins in `profiles`, << CLASS_BITS | its class"""
    profiles: NDArray[np.int64]
    """[P * PROFILE]"""
    before: NDArray[np.int64]
    """[S * O * K] side before, part, own class: with the gap before and the case"""
    after: NDArray[np.int64]
    """[S * K] side after, own class: with the gap after"""
    around: NDArray[np.int64]
    """[O * S * S] part, sides before and after: with both gaps, and neighbours of the same case"""
    gap_before: NDArray[np.int64]
    """[gaps * K] what another gap than a space adds, zero for strong ones, which are in the tables above"""
    gap_after: NDArray[np.int64]
    """[gaps * K]"""
    gaps: NDArray[np.int64]
    """[gaps * gaps]"""
    case: NDArray[np.int64]
    """[cases * K] what an odd case adds to an untold one"""
    cases: NDArray[np.int64]
    """[cases ** 3] own, before, after: what odd ones add to ordinary ones"""

    def look_up(self, context: Context) -> Profiled:
        """Find every word's profile and class."""
        found = self.profile_and_class.take(context.rows)
        return Profiled(context, found >> CLASS_BITS, found & ((1 << CLASS_BITS) - 1), _is_odd(context))

    def scores(self, words: Profiled, at: NDArray[np.int64]) -> NDArray[np.int16]:
        """[len(at), 4] score of each `Tag` for the words in the places `at`."""
        context = words.context
        own_class, case = words.classes.take(at), context.cases.take(at)
        total = lanes(self.profiles.take(words.profiles.take(at) + COLUMN_OF_CASE.take(case)))
        for column, offset in enumerate(WINDOW):
            if offset:
                total += lanes(self.profiles[column:].take(words.profiles.take(at + offset)))
        before = self._sides(context.gaps.take(at), words.classes.take(at - 1))
        after = self._sides(context.gaps.take(at + 1), words.classes.take(at + 1))
        part = ORDINARY_OF_CASE.take(case)
        sides = self.classes + GAPS
        total += lanes(self.before.take((before * len(ORDINARY) + part) * self.classes + own_class))
        total += lanes(self.after.take(after * self.classes + own_class))
        total += lanes(self.around.take((part * sides + before) * sides + after))
        odd = np.flatnonzero(words.odd.take(at))
        _add(total, odd, self._beyond_ordinary(context, at.take(odd), own_class.take(odd)))
        return total

    def _sides(self, gaps: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Side of each word: its neighbour's class, or in its stead the gap between."""
        strong = np.flatnonzero(among(gaps, STRONG_GAPS))
        classes[strong] = self.classes + gaps.take(strong).astype(np.int64)
        return classes

    def _beyond_ordinary(
        self, context: Context, at: NDArray[np.int64], own_class: NDArray[np.int64]
    ) -> NDArray[np.int16]:
        """[len(at), 4] what gaps and cases add to what an ordinary word would have."""
        gap_before, gap_after = context.gaps.take(at).astype(np.int64), context.gaps.take(at + 1).astype(np.int64)
        case = context.cases.take(at).astype(np.int64)
        around = context.cases.take(at - 1).astype(np.int64) * CASES + context.cases.take(at + 1)
        total = lanes(self.gap_before.take(gap_before * self.classes + own_class))
        total += lanes(self.gap_after.take(gap_after * self.classes + own_class))
        total += lanes(self.gaps.take(gap_before * GAPS + gap_after))
        total += lanes(self.case.take(case * self.classes + own_class))
        total += lanes(self.cases.take(case * CASES * CASES + around))
        return total


def _add(total: NDArray[np.int16], rows: NDArray[np.int64], scores: NDArray[np.int16]) -> None:
    """`total[rows] += scores` for rows that differ, by whole rows of four instead of one number after another."""
    packed = pack_lanes(total)
    added = packed.take(rows)
    lanes(added)[...] += scores
    packed[rows] = added


def _is_odd(context: Context) -> NDArray[np.bool_]:
    """[places] true where a gap on either side, or a case in the window of three, is not ordinary."""
    odd_gap = among(context.gaps, ODD_GAPS)
    odd_case = among(context.cases, ODD_CASES)
    odd: NDArray[np.bool_] = odd_gap | odd_case
    odd[:-1] |= odd_gap[1:] | odd_case[1:]
    odd[1:] |= odd_case[:-1]
    return odd


def build_scorer(tagger: Tagger) -> Scorer:
    """Fold the tables: every sum comes out as it would from all of them."""
    classes = len(tagger.classes)
    table = {
        name: lanes(getattr(tagger, name)).reshape(*getattr(tagger, name).shape, len(Tag))
        for name in ("profiles", "before", "after", "around", "gap_before", "gap_after", "gaps", "case", "cases")
    }
    own = table["profiles"][:, OWN]
    told = [own + table["profiles"][:, column] for column in PROFILE_OF_CASE.values()]
    # The gap that a side stands for: a strong one is a side of its own, beside any word is a space.
    gap_of_side = np.concatenate([np.full(classes, Gap.SPACE), np.arange(GAPS)])
    before = table["before"] + table["gap_before"][gap_of_side]
    around = table["around"] + table["gaps"][gap_of_side[:, None], gap_of_side]
    # An empty place, which has no case, is where no caption is: beyond START and END.
    first, last = (gap_of_side == Gap.START)[:, None], gap_of_side == END
    around_of_case = [
        around + table["cases"][case, np.where(first, Case.NONE, case), np.where(last, Case.NONE, case)]
        for case in ORDINARY
    ]
    ordinary = np.array(ORDINARY)[ORDINARY_OF_CASE]
    own_case, left, right = np.ogrid[:CASES, :CASES, :CASES]
    ordinary_cases = table["cases"][
        ordinary[own_case],
        np.where(left == Case.NONE, Case.NONE, ordinary[own_case]),
        np.where(right == Case.NONE, Case.NONE, ordinary[own_case]),
    ]
    folded = {
        "profiles": np.concatenate([table["profiles"][:, : len(WINDOW)], np.stack(told, axis=1)], axis=1),
        "before": np.stack([before + table["case"][case] for case in ORDINARY], axis=1),
        "after": (table["after"] + table["gap_after"][gap_of_side].swapaxes(0, 1)).swapaxes(0, 1),
        "around": np.stack(around_of_case),
        "gap_before": table["gap_before"] - table["gap_before"][ORDINARY_GAP],
        "gap_after": table["gap_after"] - table["gap_after"][ORDINARY_GAP],
        "gaps": table["gaps"] - table["gaps"][ORDINARY_GAP[:, None], ORDINARY_GAP],
        "case": table["case"] - table["case"][ordinary],
        "cases": table["cases"] - ordinary_cases,
    }
    return Scorer(
        classes=classes,
        profile_and_class=(tagger.profile_of.astype(np.int64) * PROFILE) << CLASS_BITS | tagger.class_of,
        **{name: pack_lanes(scores).ravel() for name, scores in folded.items()},
    )
