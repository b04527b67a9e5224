"""Only English decides labels."""

from __future__ import annotations

import pytest

from vocab import labeler, plain
from vocab.fit.inflection import ADJECTIVE, NOUN, VERB, inflected_forms, plural


@pytest.mark.parametrize(
    "caption",
    [
        "a café in Paris", "Rio de Janeiro at night", "a dog", "the Los Angeles river", "El Capitan in winter",
    ],
)  # fmt: skip
def test_english_with_foreign_names_is_english(caption: str) -> None:
    assert plain.read(labeler.load(), caption).english


@pytest.mark.parametrize(
    "caption",
    [
        "der Hund mit dem roten Ball", "un chien dans le jardin", "una camisa de hombre para el invierno",
        "uma casa com jardim e piscina", "il gatto sul divano di casa", "een hond op het strand met de bal",
        "hund på stranden med en boll och ett barn", "kot na stole z kwiatami dla dzieci",
    ],
)  # fmt: skip
def test_another_language_is_not(caption: str) -> None:
    assert not plain.read(labeler.load(), caption).english


def test_regular_forms_are_spelled_right() -> None:
    assert [plural(word) for word in ("dog", "box", "city", "day", "church")] == [
        "dogs", "boxes", "cities", "days", "churches",
    ]  # fmt: skip
    assert inflected_forms("bake", VERB) == ["bakes", "baking", "baked"]
    assert {"stopping", "stopped"} <= set(inflected_forms("stop", VERB))
    assert {"lying", "tying"} == {inflected_forms(verb, VERB)[1] for verb in ("lie", "tie")}
    assert inflected_forms("nice", ADJECTIVE) == ["nicer", "nicest"]
    assert inflected_forms("dog", NOUN) == ["dogs"]
