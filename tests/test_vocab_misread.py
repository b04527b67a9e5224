"""UTF-8 that was read as another encoding is put right, and honest text stays as it is."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocab import labeler, plain
from vocab.cleaning import clean
from vocab.misread import BYTE_OF, mended

TEXTS = (
    "the cat’s toy", "a “dog” on a sofa", "a dog – a cat — a sofa…", "dog™ © 2019 ®", "Café table", "CAFÉ TABLE",
    "crème brûlée", "jalapeño", "Ñandú", "Zoë’s naïve dog", "São Paulo", "MÜNCHEN", "Ångström", "Øresund", "Łódź",
    "więc", "Škoda", "ığdır", "İstanbul", "Việt Nam", "Nguyễn", "Hà Nội", "phở", "œuvre", "25°C", "½ cup", "5 × 7",
    "£5", "€5", "собака", "犬と猫", "한국", "a 🐶 dog", "a ❤️ dog", "★ dog", "→ dog", "cafe\u0301", "dog\u00a0cat",
)  # fmt: skip

HONEST = (
    "« café »", "«\u00a0café\u00a0»", "un «café» noir", "“Où est-il allé…”", "“Il est né”", "kříž”", "už též…",
    "„Spaß“", "Straße™", "“AMANHÔ", "IRMÃ…", "SÃO PAULO", "CAFÉ™", "“CAFÉ”", "PELÉ’S", "MALMÖ–LUND", "HÄMÄLÄ”",
    "“Ñ”", "à\u00a0«l’hôtel»", "Türkçe “ığdır”", "PŘÍŠERNĚ", "KŘÍŽ", "ÝŽ", "“CASĂ”", "THÉÂTRE", "CÂ", "pâte",
    "Citroën™", "Häagen-Dazs®", "Beyoncé – live", "L’ÉTÉ®", "Tiếng Việt", "собака “ж”", "中文「引号」", "naïve…",
    "2×3 cm", "√2", "10 Å", "£5", "à 5€", "ß€",
)  # fmt: skip


def windows(text: str) -> str:
    """UTF-8 read as Windows-1252, with controls for the bytes that it leaves open."""
    shown = {byte: chr(code) for code, byte in BYTE_OF.items()}
    return "".join(chr(byte) if byte < 0x80 else shown[byte] for byte in text.encode())


@pytest.mark.parametrize("text", TEXTS)
def test_misread_text_is_put_right_however_often_it_was_misread(text: str) -> None:
    latin = text.encode().decode("latin-1")
    assert mended(windows(text)) == mended(windows(windows(text))) == text
    assert mended(latin) == mended(latin.encode().decode("latin-1")) == text


@pytest.mark.parametrize("text", [*TEXTS, *HONEST])
def test_honest_text_stays(text: str) -> None:
    assert mended(text) == text


@pytest.mark.parametrize("encoding", ["mac_roman", "cp437", "cp850", "cp1251"])
def test_typographic_signs_are_put_right_in_other_encodings(encoding: str) -> None:
    text = "the cat’s “toy” – a dog…"
    assert mended(text.encode().decode(encoding)) == text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("CafÃ© table", "Café table"),
        ("Caf√© table", "Café table"),
        ("Caf├⌐", "Café"),
        ("CafĂ©", "Café"),
        ("a â€œdogâ€", "a “dog”"),
        ("a dogÂ catÂ", "a dog cat"),
    ],
)
def test_samples_as_they_are_met(text: str, wanted: str) -> None:
    assert mended(text) == wanted


@pytest.mark.parametrize(
    ("caption", "synsets"),
    [
        ("The catâ€™s toy", {"cat.n.01", "plaything.n.01"}),
        ("CafÃ© table", {"cafe.n.01", "table.n.02"}),
        ("a womanâ€™s dress", {"woman.n.01", "dress.n.01"}),
        ("The catÃ¢â‚¬â„¢s toy", {"cat.n.01", "plaything.n.01"}),
        ("The cat&acirc;&euro;&trade;s toy", {"cat.n.01", "plaything.n.01"}),
        ("The cat\u00e2\u0080\u0099s toy", {"cat.n.01", "plaything.n.01"}),
    ],
)
def test_misread_captions_get_the_labels_of_what_was_written(caption: str, synsets: set[str]) -> None:
    ours = labeler.load()
    [found] = ours.label(pa.array([caption])).to_pylist()
    assert {ours.nouns.name_of(ours.nouns.row_of(synset)) for synset in found} == synsets
    assert plain.label(ours, [caption]) == [found]


@given(st.text(alphabet="aZ -".join(map(chr, BYTE_OF)), max_size=12))
def test_any_text_of_misread_bytes_is_cleaned(text: str) -> None:
    assert clean(text)[0].isascii()
