"""Images with classes: what is selected keeps its classes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.labelled_images import Nowhere
from trainer.data.labelled_images import LabelledImages


def labelled(classes: list[list[int]]) -> LabelledImages:
    return LabelledImages(
        store=Nowhere(),
        rows=np.arange(len(classes)),
        names=tuple(f"image {number}" for number in range(len(classes))),
        offsets=np.cumsum([0, *map(len, classes)]),
        classes=np.array([label for own in classes for label in own], np.int64),
        labels=("cat", "dog", "cow", "bus"),
        multi_label=True,
        fingerprint="",
    )


@given(
    st.lists(st.sets(st.integers(0, 3)).map(sorted), min_size=1, max_size=6).flatmap(
        lambda classes: st.tuples(st.just(classes), st.lists(st.integers(0, len(classes) - 1)))
    )
)
def test_selected_images_keep_their_names_and_classes(both: tuple[list[list[int]], list[int]]) -> None:
    classes, chosen = both
    some = labelled(classes).select(np.array(chosen, np.int64))
    assert some.names == tuple(f"image {number}" for number in chosen)
    assert some.rows.tolist() == chosen
    found = [some.classes[a:b].tolist() for a, b in zip(some.offsets[:-1], some.offsets[1:], strict=True)]
    assert found == [classes[number] for number in chosen]


def test_images_are_counted_by_class() -> None:
    assert labelled([[0, 2], [2], [], [2]]).images_by_class.tolist() == [1, 0, 3, 0]
