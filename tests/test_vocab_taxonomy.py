"""The hierarchy of WordNet's nouns: path similarity against its definition and against NLTK."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.taxonomy import nltk_nouns
from vocab import taxonomy, wordnet
from vocab.errors import FormatError, InputError

DATABASE = Path("/usr/share/wordnet")
ENTITY, DOG, CAT, CANINE, DOMESTIC_ANIMAL, PARIS = 1740, 2084071, 2121620, 2083346, 1317541, 8932568

rows = st.lists(st.integers(0, 82_114), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def nouns() -> wordnet.WordNet:
    return wordnet.load()


@pytest.fixture(scope="module")
def nltk_reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if importlib.util.find_spec("nltk") is None:
        pytest.skip("nltk is not installed; pip install nltk")
    if not (DATABASE / "index.sense").is_file():
        pytest.skip(f"no {DATABASE}; on Debian: apt-get install wordnet-base wordnet-sense-index")
    import nltk

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nltk.data, "path", list(nltk.data.path))
        yield nltk_nouns(DATABASE, tmp_path_factory.mktemp("wordnet"))


def similarity(nouns: wordnet.WordNet, ours: list[int], theirs: list[int]) -> list[list[float]]:
    found: list[list[float]] = taxonomy.path_similarity(nouns, np.array(ours), np.array(theirs)).tolist()
    return found


def parents(nouns: wordnet.WordNet, row: int) -> list[int]:
    kinds = nouns.hypernyms[nouns.hypernym_starts[row] : nouns.hypernym_starts[row + 1]]
    instances = nouns.instance_hypernyms[nouns.instance_starts[row] : nouns.instance_starts[row + 1]]
    return [*kinds.tolist(), *instances.tolist()]


def steps_up(nouns: wordnet.WordNet, row: int) -> dict[int, int]:
    """Each synset at or above a row -> the fewest steps that lead there."""
    steps = {row: 0}
    frontier = [row]
    while frontier:
        frontier = [p for r in frontier for p in parents(nouns, r) if steps.setdefault(p, steps[r] + 1) == steps[r] + 1]
    return steps


def by_definition(nouns: wordnet.WordNet, ours: list[int], theirs: list[int]) -> np.ndarray[Any, Any]:
    up = {row: steps_up(nouns, row) for row in {*ours, *theirs}}
    return np.array(
        [[1 / (1 + min(up[a][h] + up[b][h] for h in up[a].keys() & up[b].keys())) for b in theirs] for a in ours],
        dtype=np.float32,
    )


def test_a_synset_is_at_similarity_1_to_itself_and_a_half_to_its_hypernym(nouns: wordnet.WordNet) -> None:
    assert similarity(nouns, [DOG], [DOG, CANINE, DOMESTIC_ANIMAL]) == [[1.0, 0.5, 0.5]]


def test_dog_and_cat_meet_four_steps_apart_at_carnivore(nouns: wordnet.WordNet) -> None:
    assert similarity(nouns, [DOG], [CAT]) == [[pytest.approx(0.2)]]


def test_whales_tortoise_and_novel_lie_as_far_from_a_right_whale_as_in_nltks_book(nouns: wordnet.WordNet) -> None:
    minke, orca, tortoise, novel = 2065407, 2071294, 1670092, 6367879
    found = similarity(nouns, [2063662], [minke, orca, tortoise, novel])
    assert found == [pytest.approx([0.25, 0.16666666, 0.07692307, 0.04347826])]


def test_a_common_hyponym_is_no_meeting_point(nouns: wordnet.WordNet) -> None:
    # dog lies below both, two steps apart; their common hypernym animal is seven steps away.
    assert similarity(nouns, [CANINE], [DOMESTIC_ANIMAL]) == [[0.125]]


def test_the_shorter_of_several_ways_up_counts(nouns: wordnet.WordNet) -> None:
    # dog -> domestic_animal -> animal -> ... -> entity, not by way of canine.
    assert similarity(nouns, [DOG], [ENTITY]) == [[pytest.approx(1 / 9)]]
    assert int(taxonomy.depths(nouns)[nouns.row_of(DOG)]) == 13


def test_an_instance_is_one_step_below_its_kind(nouns: wordnet.WordNet) -> None:
    national_capital = int(nouns.synsets[parents(nouns, nouns.row_of(PARIS))[0]])
    assert similarity(nouns, [PARIS], [national_capital]) == [[0.5]]


def test_one_root_stands_above_all_nouns(nouns: wordnet.WordNet) -> None:
    depth = taxonomy.depths(nouns)
    assert nouns.synsets[depth == 0].tolist() == [ENTITY]
    assert int(depth.max()) == 19


def test_every_synset_lies_deeper_than_its_hypernyms(nouns: wordnet.WordNet) -> None:
    children, above = taxonomy.hypernym_edges(nouns)
    depth = taxonomy.depths(nouns)
    assert len(children) == 84_427
    assert bool(np.all(depth[children] > depth[above]))


@settings(max_examples=25, deadline=None)
@given(rows, rows)
def test_the_fast_path_equals_the_definition(ours: list[int], theirs: list[int]) -> None:
    nouns = wordnet.load()
    fast = taxonomy.path_similarity(nouns, nouns.synsets[ours], nouns.synsets[theirs])
    np.testing.assert_array_equal(fast, by_definition(nouns, ours, theirs))


@settings(max_examples=25, deadline=None)
@given(rows)
def test_ancestors_are_what_steps_up_lead_to(chosen: list[int]) -> None:
    nouns = wordnet.load()
    above = sorted(set().union(*(steps_up(nouns, row) for row in chosen)))
    assert taxonomy.ancestors(nouns, np.array(chosen)).tolist() == above


def test_similarity_is_symmetric(nouns: wordnet.WordNet) -> None:
    ours, theirs = nouns.synsets[::400], nouns.synsets[7::130]
    there, back = taxonomy.path_similarity(nouns, ours, theirs), taxonomy.path_similarity(nouns, theirs, ours)
    np.testing.assert_array_equal(there, back.T)
    assert (there.shape, there.dtype) == ((206, 632), np.float32)


def test_columns_worked_on_apart_give_the_same(nouns: wordnet.WordNet, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = nouns.synsets[::9000], nouns.synsets[5::5000]
    together = taxonomy.path_similarity(nouns, ours, theirs)
    monkeypatch.setattr(taxonomy, "COLUMNS", 3)
    np.testing.assert_array_equal(taxonomy.path_similarity(nouns, ours, theirs), together)


def test_nltk_gives_the_same_similarities(nouns: wordnet.WordNet, nltk_reader: Any) -> None:
    generator = np.random.default_rng(1)
    ours = generator.choice(nouns.synsets, 40, replace=False)
    theirs = np.concatenate([ours[:5], generator.choice(nouns.synsets, 40, replace=False)])
    synsets = {s: nltk_reader.synset_from_pos_and_offset("n", s) for s in {*ours.tolist(), *theirs.tolist()}}
    expected = [[synsets[a].path_similarity(synsets[b]) for b in theirs.tolist()] for a in ours.tolist()]
    found = taxonomy.path_similarity(nouns, ours, theirs)
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32))


def test_nltk_gives_the_same_depths(nouns: wordnet.WordNet, nltk_reader: Any) -> None:
    depth = taxonomy.depths(nouns)
    for row in range(0, 82_115, 1000):
        assert nltk_reader.synset_from_pos_and_offset("n", int(nouns.synsets[row])).max_depth() == depth[row]


@pytest.mark.parametrize(("ours", "theirs", "shape"), [([], [DOG], (0, 1)), ([DOG], [], (1, 0)), ([], [], (0, 0))])
def test_no_synsets_give_no_similarities(
    nouns: wordnet.WordNet, ours: list[int], theirs: list[int], shape: tuple[int, int]
) -> None:
    assert taxonomy.path_similarity(nouns, np.array(ours), np.array(theirs)).shape == shape


def test_the_root_alone_is_no_special_case(nouns: wordnet.WordNet) -> None:
    assert similarity(nouns, [ENTITY, ENTITY], [ENTITY]) == [[1.0], [1.0]]


@pytest.mark.parametrize("synset", [2084072, 0, -1, 99_999_999, 2**40])
def test_an_unknown_synset_is_refused_on_either_side(nouns: wordnet.WordNet, synset: int) -> None:
    with pytest.raises(InputError, match=r"synset n.*WordNet 3\.0"):
        similarity(nouns, [DOG, synset], [CAT])
    with pytest.raises(InputError, match=r"synset n.*WordNet 3\.0"):
        similarity(nouns, [DOG], [synset])


@pytest.mark.parametrize("synsets", [[2084071.0], ["n02084071"], [[2084071]], 2084071, [True]])
def test_what_is_no_list_of_offsets_is_refused(nouns: wordnet.WordNet, synsets: Any) -> None:
    with pytest.raises(InputError, match="one-dimensional array of integers"):
        taxonomy.path_similarity(nouns, np.array(synsets), np.array([DOG]))


def test_synsets_without_a_common_hypernym_are_at_similarity_0(nouns: wordnet.WordNet) -> None:
    flat = replace(nouns, hypernym_starts=np.zeros_like(nouns.hypernym_starts), hypernyms=nouns.hypernyms[:0])
    assert similarity(flat, [DOG, CAT], [DOG, ENTITY]) == [[1.0, 0.0], [0.0, 0.0]]


def test_hypernyms_that_run_in_a_circle_are_refused(nouns: wordnet.WordNet) -> None:
    hypernyms = nouns.hypernyms.copy()
    hypernyms[nouns.hypernym_starts[nouns.row_of(CANINE)]] = nouns.row_of(DOG)
    with pytest.raises(FormatError, match="circle"):
        taxonomy.depths(replace(nouns, hypernyms=hypernyms))


POODLE, AIRPLANE, TENCH, FISH = 2113335, 2691156, 1440764, 2512053


def test_hyponyms_lie_below_at_any_depth_and_nothing_lies_below_itself(nouns: wordnet.WordNet) -> None:
    among = np.array([TENCH, DOG, POODLE, AIRPLANE, CANINE, DOG])
    found = taxonomy.hyponyms_in(nouns, np.array([FISH, CANINE, DOG, POODLE, ENTITY, DOG]), among)
    assert [places.tolist() for places in found] == [[0], [1, 2, 5], [2], [], [0, 1, 2, 3, 4, 5], [2]]


def test_an_instance_is_a_hyponym_of_its_kind(nouns: wordnet.WordNet) -> None:
    kind = nouns.synsets[parents(nouns, nouns.row_of(PARIS))]
    assert taxonomy.hyponyms_in(nouns, kind[:1], np.array([PARIS]))[0].tolist() == [0]


def test_hyponyms_among_nothing_and_of_nothing_are_none(nouns: wordnet.WordNet) -> None:
    nothing = np.zeros(0, np.int32)
    assert [places.tolist() for places in taxonomy.hyponyms_in(nouns, np.array([DOG]), nothing)] == [[]]
    assert taxonomy.hyponyms_in(nouns, nothing, np.array([DOG])) == []


@settings(max_examples=25, deadline=None)
@given(rows, rows)
def test_hyponyms_are_those_whose_steps_up_lead_here(ours: list[int], theirs: list[int]) -> None:
    nouns = wordnet.load()
    # Random synsets seldom lie above each other: what lies above some of them does.
    ours = [*ours, *(row for other in theirs[:2] for row in steps_up(nouns, other))]
    found = taxonomy.hyponyms_in(nouns, nouns.synsets[ours], nouns.synsets[theirs])
    above = [steps_up(nouns, row) for row in theirs]
    wanted = [[place for place, row in enumerate(theirs) if row != s and s in above[place]] for s in ours]
    assert [places.tolist() for places in found] == wanted


def test_hyponyms_of_a_synset_of_another_version_are_refused(nouns: wordnet.WordNet) -> None:
    with pytest.raises(InputError, match="n00000001"):
        taxonomy.hyponyms_in(nouns, np.array([1]), np.array([DOG]))
