"""Numbers of things, as notes have them."""

from __future__ import annotations

from trainer.transfer.words import counted


def test_one_thing_is_not_called_several() -> None:
    assert [counted(number, "image") for number in (0, 1, 1000)] == ["0 images", "1 image", "1,000 images"]
    assert [counted(number, "class has none", "classes have none") for number in (1, 2)] == [
        "1 class has none",
        "2 classes have none",
    ]
