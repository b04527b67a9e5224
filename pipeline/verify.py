"""Two labelers side by side on captions of your own: a story that ends in a page of text.

In: captions and the names of two labelers. Out: how far they agree, what the one gives and the other not, examples.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict

import pyarrow as pa

from pipeline.agreement import Agreement, Example, agreement
from pipeline.caption_sample import CaptionSample, draw_captions
from pipeline.config import Verify
from pipeline.reading.inputs import list_inputs
from pipeline.terminal import table
from vocab import wordnet
from vocab.labelers import CaptionLabeler, LabelerName, load_labeler
from vocab.pages.text import shown, tell
from vocab.store.files import write_whole
from vocab.store.locations import Location, make_folder_of, refuse_taken
from vocab.wordnet import wnid_of


def run_verify(options: Verify) -> None:
    """Compare, print, and write the JSON file where one is asked for.

    Raises OutputExistsError if that file exists, what `load_labeler` raises, and InputError for captions that cannot be
    read.
    """
    if options.out is not None:
        refuse_taken(options.out)
    labelers = [load(name, options) for name in options.labelers]
    inputs = list_inputs(options.captions, options.format)
    drawn = draw_captions(
        inputs,
        caption_columns=options.caption_columns,
        columns=options.columns,
        separator=options.separator,
        quoting=options.quoting,
        rows=options.sample,
        seed=options.seed,
    )
    captions = pa.array(drawn.captions, pa.string())
    first, second = (labeler.label(captions).to_pylist() for labeler in labelers)
    found = agreement(drawn.captions, first, second, examples=options.examples, seed=options.seed)
    tell("\n".join(told(drawn, found, options.labelers)) + "\n", to=sys.stdout)
    if options.out is not None:
        write_report(options.out, options, labelers, drawn, found)


def load(name: LabelerName, options: Verify) -> CaptionLabeler:
    """The labeler of that name with its options."""
    return load_labeler(name, spacy_model=options.spacy_model, wordnet=options.wordnet, punkt=options.punkt)


def told(drawn: CaptionSample, found: Agreement, names: tuple[str, str]) -> list[str]:
    """The comparison in lines."""
    first, second = names
    labels = found.both + found.only_first + found.only_second
    lines = [
        f"{found.captions:,} captions of {drawn.rows:,} rows, drawn from {drawn.rows_read:,} that were read"
        + (f"; {drawn.unusable:,} more are not UTF-8 or too long" if drawn.unusable else ""),
        "",
        *table(
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
            *(table([("captions", "wnid", "synset"), *rows]) if rows else ["-"]),
        ]
    if found.examples:
        lines += ["", "captions whose labels differ, for example:"]
    for example in found.examples:
        lines += example_lines(example, names)
    return lines


def example_lines(example: Example, names: tuple[str, str]) -> list[str]:
    """One caption and its labels; what strangers wrote is made harmless."""
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
    """Everything as JSON: the options, what labelers these were, what was drawn and what it gave."""
    sample = asdict(drawn)
    del sample["captions"]
    content = {
        "config": asdict(options)
        | {"out": str(out), "wordnet": None if options.wordnet is None else str(options.wordnet)},
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
