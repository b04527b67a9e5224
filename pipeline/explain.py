"""Explanation of a caption's labels: every step of the labeler, for people to read.

In: captions. Out: text, with a table for each caption:

    a golden retriever saw
    cleaned   a golden retriever saw
    language  English by 5: a +2, golden +1, retriever +1, saw +1
    labels    golden_retriever.n.01 n02099601

    word       tag               form              what becomes of it
    a          OTHER by 6.9      a                 grammar word
    golden     ADJECTIVE by 2.2  golden_retriever  part of golden_retriever
    retriever  NOUN by 1.1       golden_retriever  golden_retriever.n.01: its only sense
    saw        OTHER by 0.8      saw               no noun here: OTHER by 0.8
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from pipeline.reject_reasons import MISSING_VALUE, NOT_UTF8
from vocab import labeler, language, plain
from vocab.cleaning import FOREIGN_LETTER
from vocab.empty_reasons import WORDING
from vocab.labeler import PHRASE_BONUS, Labeler
from vocab.missing_values import is_missing
from vocab.nouns import is_function_word, is_number_or_code
from vocab.pages.text import shown
from vocab.plain import Noun, Reading, Scores, Sense
from vocab.senses import NO_SENSE, PAIR
from vocab.senses import SCALE as SENSE_SCALE
from vocab.tagger import SCALE, Tag
from vocab.user_lexicon import UserLexicon
from vocab.wordnet import wnid_of

HEADER = ("word", "tag", "form", "what becomes of it")
MAX_RIVALS = 4
"""senses shown beside the chosen one"""


def explain(captions: Iterable[str], lexicon: UserLexicon | None = None) -> str:
    """Explain each caption, as labelled with the user's own words; an empty line stands between two."""
    ours = labeler.load() if lexicon is None else labeler.load_with(lexicon)
    # The labeler has a control character in index of a letter of another script.
    accounts = "\n".join(account_of(ours, caption) for caption in captions).replace(FOREIGN_LETTER, "?")
    return shown(accounts, lines=True)


def account_of(ours: Labeler, caption: str) -> str:
    """Explain one caption."""
    if reason := why_rejected(caption):
        return f"{caption.encode(errors='replace').decode()}\nrejected  {reason}\n"
    reading = plain.read(ours, caption)
    lines = [
        shown(caption),
        f"cleaned   {reading.cleaned}",
        f"language  {why_language(ours, reading)}",
        f"labels    {labels_of(ours, reading)}",
    ]
    if reading.words:
        lines += ["", *aligned([HEADER, *rows_of(ours, reading)])]
    passed_over = passed_over_phrases(ours, reading)
    if passed_over:
        lines += ["", *aligned(passed_over)]
    return "\n".join(lines) + "\n"


def why_rejected(caption: str) -> str | None:
    """Reason why the job rejects a row with this caption alone, or None."""
    if any("\ud800" <= character <= "\udfff" for character in caption):
        return NOT_UTF8
    return MISSING_VALUE if is_missing(caption) else None


def why_language(ours: Labeler, reading: Reading) -> str:
    """Verdict on the caption's language, with the words that counted."""
    counted = [(word.text, plain.word_value(ours, word)) for word in reading.words]
    values = [f"{text} {value:+d}" for text, value in counted if value]
    if reading.accents:
        values.append(f"{reading.accents} accents or foreign letters {language.ACCENT * reading.accents:+d}")
    taken = "English" if reading.english else "not English"
    return f"{taken} by {abs(reading.language_value)}: {', '.join(values) or 'nothing says otherwise'}"


def labels_of(ours: Labeler, reading: Reading) -> str:
    """The labels by name and wnid, in the order in which they are stored."""
    rows = sorted(set(reading.synsets) - {NO_SENSE})
    if (why := plain.why_empty(ours, reading)) is not None:
        return f"none, {WORDING[why]}"
    return ", ".join(f"{ours.nouns.name_of(row)} {wnid_of(int(ours.nouns.synsets[row]))}" for row in rows)


def rows_of(ours: Labeler, reading: Reading) -> list[tuple[str, ...]]:
    """Rows of the table, one for each word."""
    noun_at = {index: noun for noun in reading.nouns for index in noun.places}
    rows: list[tuple[str, ...]] = []
    for index, word in enumerate(reading.words):
        noun = noun_at.get(index)
        if noun is not None:
            form = lemma_name(ours, noun.lemma)
            became = why_sense(ours, reading, noun) if index == noun.last else f"part of {form}"
        else:
            lemma = int(ours.lexicon.lemma_of_word[word.row])
            form = lemma_name(ours, lemma) if lemma >= 0 else word.form
            became = why_no_label(ours, reading, index)
        rows.append((word.text, tag_and_margin(reading.scores[index]), form, became))
    return rows


def why_no_label(ours: Labeler, reading: Reading, index: int) -> str:
    """Why a word that is not part of a noun has no label."""
    word, scores = reading.words[index], reading.scores[index]
    stop = next((phrase for phrase in stop_phrases(ours, reading) if index in phrase.places), None)
    if stop is not None:
        kind = "a name" if ours.lexicon.titles[stop.lemma] else "no noun"
        if plain.is_users(ours, stop.lemma):
            return f"part of {lemma_name(ours, stop.lemma)}: no label, by the lexicon"
        return f"part of {lemma_name(ours, stop.lemma)}, which is {kind}"
    if ours.user is not None and ours.user.silent[word.row]:
        return "no label, by the lexicon"
    if int(ours.lexicon.lemma_of_word[word.row]) < 0:
        return why_no_lemma(ours, word.form)
    if not reading.english:
        return "caption not English"
    if plain.is_shade(reading.words, index):
        return f"a shade of {reading.words[index + 1].form}"
    if plain.is_noun(scores, bonus=0) and plain.is_name(word, scores):
        return f"part of a longer name: {tag_and_margin(scores)}"
    return f"no noun here: {tag_and_margin(scores)}"


def stop_phrases(ours: Labeler, reading: Reading) -> list[Noun]:
    """Words that are no noun together: in front of."""
    if not reading.english:
        return []
    as_head = [plain.is_noun(scores, bonus=PHRASE_BONUS) for scores in reading.scores]
    won = plain.won_phrases(ours, reading.words, as_head)
    return [phrase for phrase in won if ours.lexicon.stops[phrase.lemma]]


def why_no_lemma(ours: Labeler, form: str) -> str:
    """Why a word is never a label by itself."""
    forms = pa.array([form])
    if is_function_word(forms)[0]:
        return "grammar word"
    if is_number_or_code(forms)[0]:
        return "number or code"
    lemma = ours.nouns.lemmas.index(form).as_py()
    if lemma >= ours.lexicon.own:
        return "no noun in captions"
    return "a noun of WordNet, but none in captions" if lemma >= 0 else "no noun of WordNet"


def why_sense(ours: Labeler, reading: Reading, noun: Noun) -> str:
    """The sense that won, what speaks for it, and those it won against."""
    senses = plain.senses_of(ours, reading.words, noun)
    won = plain.choose_sense(ours, reading.words, noun)
    if won == NO_SENSE:
        return why_no_sense(ours, reading, noun)
    senses = [sense for sense in senses if sense.synset != NO_SENSE]
    ranked = sorted(senses, key=lambda sense: (sense.synset != won, -sense.total))
    name = ours.nouns.name_of(won)
    if plain.is_users(ours, noun.lemma):
        return f"{name}: by the lexicon"
    first, last = ours.nouns.sense_starts[noun.lemma : noun.lemma + 2]
    if len(senses) == 1:
        as_kind = "" if last - first == 1 else f" as a {'name' if noun.is_name else 'common noun'}"
        return f"{name}: its only sense{as_kind}"
    before_cues = max(senses, key=lambda sense: sense.score)
    if before_cues.synset != won:
        why = f"the words around: {cues_of(ranked[0])}"
    elif noun.lemma >= ours.lexicon.own:
        why = "likeliest in captions"
    elif before_cues is senses[0]:
        why = "most used"
    else:
        why = "likelier in a picture"
    shown = [
        f"{ours.nouns.name_of(sense.synset)} {sense.total / SENSE_SCALE:.1f}" for sense in ranked[: MAX_RIVALS + 1]
    ]
    more = f", {len(ranked) - len(shown)} more" if len(ranked) > len(shown) else ""
    return f"{shown[0]}: {why}; before {', '.join(shown[1:])}{more}"


def why_no_sense(ours: Labeler, reading: Reading, noun: Noun) -> str:
    """Why a noun has no label."""
    candidates = [sense for sense in plain.senses_of(ours, reading.words, noun) if sense.can_win]
    if not candidates:
        first, last = ours.nouns.sense_starts[noun.lemma : noun.lemma + 2]
        individuals = np.diff(ours.nouns.instance_starts)[ours.nouns.sense_synsets[first:last]]
        kind = "one word of a person's name" if individuals.any() else "a name that is none of WordNet's"
        return f"{kind}: {tag_and_margin(reading.scores[noun.last])}"
    if ours.senses.needs_cue[noun.lemma] and not any(sense.listed for sense in candidates):
        return "a noun in captions only beside words that are listed for it"
    return "a colour"


def cues_of(sense: Sense) -> str:
    """The words that speak for or against a sense."""
    said = [*sense.cues, *((text, PAIR) for text in sense.listed)]
    return ", ".join(f"{text} {cue / SENSE_SCALE:+.1f}" for text, cue in said) or "against the others"


def passed_over_phrases(ours: Labeler, reading: Reading) -> list[tuple[str, ...]]:
    """Nouns of several words that the caption holds and that are not labelled."""
    noun_at = {index: noun for noun in reading.nouns for index in noun.places}
    rows: list[tuple[str, ...]] = []
    for phrase in plain.find_phrases(ours, reading.words):
        if noun_at.get(phrase.first) == phrase or ours.lexicon.stops[phrase.lemma]:
            continue
        rows.append((lemma_name(ours, phrase.lemma), why_no_phrase(ours, reading, phrase, noun_at)))
    return rows


def why_no_phrase(ours: Labeler, reading: Reading, phrase: Noun, noun_at: Mapping[int, Noun]) -> str:
    """Why words that are a noun of WordNet are not labelled as one."""
    words, scores = reading.words, reading.scores[phrase.last]
    if not reading.english:
        return "caption not English"
    if plain.is_users(ours, phrase.lemma) and not plain.is_entry(ours, words, phrase):
        return "an entry of the lexicon, parted by a sign"
    if plain.is_no_name_here(ours, words, phrase):
        return "a description here, not a name"
    if plain.is_broken(words, phrase):
        return "parted by a sign"
    is_noun = plain.is_noun(scores, bonus=PHRASE_BONUS) or plain.is_hyphenated(words, phrase)
    if not (is_noun or plain.is_users(ours, phrase.lemma)):
        return f"no noun here: {words[phrase.last].text} is {tag_and_margin(scores)}"
    stops = stop_phrases(ours, reading)
    longer = next((stop for stop in stops if set(stop.places) & set(phrase.places)), None) or next(
        noun_at[index] for index in phrase.places if index in noun_at
    )
    return f"gives way to {lemma_name(ours, longer.lemma)}"


def tag_and_margin(scores: Scores) -> str:
    """The winning tag, and by how much log odds: "NOUN by 2.4"."""
    # In doubt a noun, as in `plain.is_noun`.
    tag = max(Tag, key=lambda tag: (scores[tag], tag == Tag.NOUN))
    runner_up = max(scores[other] for other in Tag if other != tag)
    return f"{tag.name} by {(scores[tag] - runner_up) / SCALE:.1f}"


def lemma_name(ours: Labeler, lemma: int) -> str:
    """A lemma as WordNet writes it: hot_dog."""
    return str(ours.nouns.lemmas[lemma])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, each column but the last as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
