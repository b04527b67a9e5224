"""Comparison of two labelers on your own captions: the story of `python -m pipeline verify`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from random import Random

import pyarrow as pa

from pipeline.caption_sample import CaptionSample, draw_captions
from pipeline.config import Label, Verify
from pipeline.reading.captions import reading_of
from pipeline.reading.inputs import list_inputs
from vocab import wordnet
from vocab.labelers import CaptionLabeler, load_labeler
from vocab.pages.tables import terminal_table
from vocab.pages.text import shown, tell
from vocab.store.files import write_whole
from vocab.store.locations import Location, make_folder_of, refuse_taken
from vocab.store.secrets import public
from vocab.user_lexicon import read_lexicon
from vocab.wordnet import wnid_of


def run_verify(options: Verify) -> None:
    """Compare, print, and write the JSON file if one is wanted.

    Raises OutputExistsError if that file exists, InputError for captions that cannot be read, and what `load_labeler`
    and `read_lexicon` raise.
    """
    if options.out is not None:
        refuse_taken(options.out)
    lexicon = None if options.lexicon is None else read_lexicon(options.lexicon)
    labelers = [
        load_labeler(
            name, spacy_model=options.spacy_model, wordnet=options.wordnet, punkt=options.punkt,
            lexicon=None if name == "reference" else lexicon,
        )
        for name in options.labelers
    ]  # fmt: skip
    inputs = list_inputs(options.captions, options.format)
    as_job = Label(
        (), "", inputs.format, options.caption_columns,
        columns=options.columns, separator=options.separator, quoting=options.quoting,
    )  # fmt: skip
    drawn = draw_captions(inputs, reading_of(as_job, inputs), rows=options.sample, seed=options.seed)
    captions = pa.array(drawn.texts, pa.string())
    first, second = (labeler.label(captions).to_pylist() for labeler in labelers)
    found = agreement(drawn.texts, first, second, examples=options.examples, seed=options.seed)
    tell("\n".join(summary_lines(drawn, found, options.labelers)) + "\n", to=sys.stdout, has_captions=True)
    if options.out is not None:
        write_report(options.out, options, labelers, drawn, found)


def summary_lines(drawn: CaptionSample, found: Agreement, names: tuple[str, str]) -> list[str]:
    """The comparison as lines of text."""
    first, second = names
    labels = found.both + found.only_first + found.only_second
    lines = [
        f"{found.captions:,} captions of {drawn.rows:,} rows, drawn from {drawn.rows_read:,} that were read"
        + (f"; {drawn.unusable:,} more are not UTF-8 or too long" if drawn.unusable else ""),
        "",
        *terminal_table(
            [
                ("labels per caption", "captions without", "labels only it gives", "labeler"),
                (f"{found.labels[0]:.2f}", found.without[0], found.only_first, first),
                (f"{found.labels[1]:.2f}", found.without[1], found.only_second, second),
            ]
        ),
        "",
        f"equal labels       {found.equal / found.captions:.1%} of captions",
        f"mean Jaccard       {found.jaccard:.3f} (labels in common / labels of either)",
        f"labels in common   {found.both / max(1, labels):.1%} of the {labels:,} that either gives",
    ]
    for title, counts in ((f"only {first}", found.lost), (f"only {second}", found.gained)):
        rows = [(count, wnid_of(synset), name_of(synset)) for synset, count in counts]
        lines += [
            "",
            f"{title} gives, most often:",
            *(terminal_table([("captions", "wnid", "synset"), *rows]) if rows else ["-"]),
        ]
    if found.examples:
        lines += ["", "captions whose labels differ, for example:"]
    for example in found.examples:
        lines += example_lines(example, names)
    return lines


def example_lines(example: Example, names: tuple[str, str]) -> list[str]:
    """One caption and its labels; the stranger's text is made harmless."""
    parts = (
        ("both", example.both),
        (f"only {names[0]}", example.only_first),
        (f"only {names[1]}", example.only_second),
    )
    width = max(len(part) for part, _ in parts)
    return [
        "",
        shown(example.caption),
        *(f"    {part.ljust(width)}  {', '.join(map(name_of, synsets))}" for part, synsets in parts if synsets),
    ]


def name_of(synset: int) -> str:
    """2084071 -> "dog.n.01"."""
    nouns = wordnet.load()
    return nouns.name_of(nouns.row_of(synset))


def write_report(
    out: Location, options: Verify, labelers: Iterable[CaptionLabeler], drawn: CaptionSample, found: Agreement
) -> None:
    """Write everything as JSON: the options, the labelers, the sample and the comparison."""
    sample = {"rows": drawn.rows, "rows_read": drawn.rows_read, "unusable": drawn.unusable, "files": drawn.listed}
    content = {
        "config": public(asdict(options)),
        "labelers": [{"name": labeler.name, "fingerprint": labeler.fingerprint} for labeler in labelers],
        "sample": sample,
        "agreement": asdict(found)
        | {
            "lost": [[wnid_of(synset), count] for synset, count in found.lost],
            "gained": [[wnid_of(synset), count] for synset, count in found.gained],
            "examples": [
                {name: [wnid_of(s) for s in value] if name != "caption" else value for name, value in vars(e).items()}
                for e in found.examples
            ],
        },
    }
    make_folder_of(out)
    with write_whole(out) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


SHOWN_SYNSETS = 20
"""synsets shown of those that only one labeler gives"""


@dataclass(frozen=True)
class Example:
    """One caption with its labels, as synset offsets."""

    caption: str
    both: tuple[int, ...]
    only_first: tuple[int, ...]
    only_second: tuple[int, ...]


@dataclass(frozen=True)
class Agreement:
    """Result of the comparison."""

    captions: int
    equal: int
    """captions to which both give the same labels, or both none"""
    jaccard: float
    """mean over captions of labels in common / labels of either; 1 for a caption without any"""
    labels: tuple[float, float]
    """labels per caption, of the first and of the second"""
    without: tuple[int, int]
    """captions without a label, of the first and of the second"""
    both: int
    """labels that both give to the same caption, over all captions"""
    only_first: int
    only_second: int
    lost: tuple[tuple[int, int], ...]
    """synset, captions: labels that only the first gives, most frequent first"""
    gained: tuple[tuple[int, int], ...]
    """synset, captions: labels that only the second gives, most frequent first"""
    examples: tuple[Example, ...]
    """some of the captions on which they differ"""


def agreement(
    captions: Sequence[str], first: Sequence[list[int]], second: Sequence[list[int]], *, examples: int, seed: int
) -> Agreement:
    """Compare the labels of at least one caption. `first` and `second` [captions]: unique synsets of each caption."""
    lost: Counter[int] = Counter()
    gained: Counter[int] = Counter()
    equal, jaccard, both, differing = 0, 0.0, 0, []
    for number, (a, b) in enumerate(zip(map(set, first), map(set, second), strict=True)):
        lost.update(a - b)
        gained.update(b - a)
        both += len(a & b)
        jaccard += len(a & b) / len(a | b) if a | b else 1.0
        if a == b:
            equal += 1
        else:
            differing.append(number)
    shown = sorted(Random(seed).sample(differing, min(examples, len(differing))))
    return Agreement(
        captions=len(captions),
        equal=equal,
        jaccard=jaccard / len(captions),
        labels=(sum(map(len, first)) / len(captions), sum(map(len, second)) / len(captions)),
        without=(sum(not labels for labels in first), sum(not labels for labels in second)),
        both=both,
        only_first=lost.total(),
        only_second=gained.total(),
        lost=most_frequent(lost),
        gained=most_frequent(gained),
        examples=tuple(example(captions[number], set(first[number]), set(second[number])) for number in shown),
    )


def most_frequent(counts: Counter[int]) -> tuple[tuple[int, int], ...]:
    """Synsets by falling count; those of equal count by number, so that the order is always the same."""
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_SYNSETS])


def example(caption: str, first: set[int], second: set[int]) -> Example:
    """One caption's labels: of both, of the first alone, of the second alone."""
    return Example(caption, tuple(sorted(first & second)), tuple(sorted(first - second)), tuple(sorted(second - first)))
