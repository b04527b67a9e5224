"""Caption text to words: what counts as markup, as a word and as a break between words.

In: an Arrow string array. Out: its words, lower-cased, one after another, and where each text's words begin.
"""

from __future__ import annotations

import html
import re
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# A text without any of these three characters holds no markup; most captions skip the slow path by this test.
MARKUP_CHARACTERS = "[&<%]"
TAG = re.compile(r"<[^<>]*>")

ADDRESS = r"(?i)(https?://|www\.)\S+"
POSSESSIVE_OR_APOSTROPHE = r"['’ʼ](s\b)?"
BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}]+"


def split_words(texts: pa.StringArray) -> tuple[pa.StringArray, NDArray[np.int64]]:
    """Words of each text, and starts [len(texts) + 1]: text i has words[starts[i]:starts[i + 1]].

    Hyphens, underscores and every other sign part words, so `t-shirt`, `t_shirt` and `T shirt` are the same two words;
    an apostrophe joins (`o'clock`) and a possessive s is dropped (`dog's`). Nulls have no words. `texts` must be valid
    UTF-8.
    """
    texts = remove_markup(texts).fill_null("")
    texts = pc.replace_substring_regex(texts, ADDRESS, " ")
    texts = pc.replace_substring_regex(pc.utf8_lower(texts), POSSESSIVE_OR_APOSTROPHE, "")
    texts = pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, BETWEEN_WORDS, " "))
    split = pc.utf8_split_whitespace(texts)
    return split.flatten(), np.asarray(split.offsets, dtype=np.int64) - split.offsets[0].as_py()


def remove_markup(texts: pa.StringArray) -> pa.StringArray:
    """Decode URL escapes and HTML entities and drop HTML tags: `cat%20%26amp; <b>dog</b>` -> `cat & dog`."""
    marked = pc.match_substring_regex(texts, MARKUP_CHARACTERS).fill_null(False)
    if not pc.any(marked).as_py():
        return texts
    clean = [TAG.sub(" ", html.unescape(unquote(text))) for text in texts.filter(marked).to_pylist()]
    # An escape can hide any code point; lone surrogates are no text.
    clean = [text.encode("utf-8", "replace").decode() for text in clean]
    return pc.replace_with_mask(texts, marked, pa.array(clean, pa.string()))
