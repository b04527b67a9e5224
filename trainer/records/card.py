"""Model card: origin of a run's weights, their scores, their training, their limits.

In: a run's stored configuration, its vocabulary, its results. Out: Markdown with the front matter that the Hugging Face
Hub reads. The card has no links, no paths of the machine and no addresses.

A reader of the card does not know who wrote the names in a configuration: all of them pass through `in_markdown`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from trainer.loss.losses import is_softmax
from trainer.records.record import ResultsFile, score_text
from vocab.errors import InputError
from vocab.pages.tables import in_markdown, markdown_table
from vocab.vocabulary import Vocabulary

SHOWN_CLASSES = 12
SHOWN_SYNSETS = 5
"""synsets of a picture that the card's lines of Python print"""
# Options that matter for training such a model again; all of them are in the run's config.json.
TRAINED_WITH = (
    "data.image_size data.resolution data.batch_size data.min_crop_area data.range_augment data.unlabelled "
    "model.global_pool model.drop_path model.patch_keep loss.loss loss.label_smoothing optim.optimiser optim.schedule "
    "optim.steps optim.warmup_steps optim.peak_lr optim.final_lr optim.weight_decay optim.clip_norm "
    "optim.ema_momentum run.seed"
).split()
ACCOUNT = {
    "samples": "samples trained on",
    "bad": "that could not be read",
    "unmatched": "without a row in the labels",
    "unlabelled": "without a class of the vocabulary",
    "surplus_labels": "rows of the labels without a sample",
}

LIMITS = """\
Labels were mined from the captions of the pictures; nobody has checked them picture by picture.

- A caption names little of what its picture shows, and sometimes what it does not show. A class that a caption leaves
  out counts as absent in training and in the numbers above, so that those are lower than what an eye would give.
- Captions carry the prejudices of whoever wrote them, and picture and caption collections those of whoever chose them.
  Occupations, origins, genders and the like go with looks here as they go together there.
- Classes are WordNet synsets that a word was taken to mean; words of several senses get some of them wrong. WordNet
  has classes for people, some of them derogatory. No class says what a person is.
- Rare classes have been seen seldom. A probability is that a caption names the class, not that the picture shows it.
"""


@dataclass(frozen=True)
class Subject:
    """Weights that the card describes."""

    title: str
    origin: str
    """how they came about: "moving average of all 6 steps" """
    images_seen: int | None
    """images trained on; None if unknown"""
    classifier: bool = True
    licence: str = "other"
    """licence of the weights, by its name on the Hub"""


def model_card(
    subject: Subject,
    config: Mapping[str, Any],
    vocabulary: Vocabulary,
    results: ResultsFile | None,
    *,
    loading: str,
) -> str:
    """README.md of a run or of an exported folder.

    `config`: content of the run's config.json. `results`: its results.json, or None if these weights have not been
    evaluated. `loading`: Markdown on how to load the weights from the card's folder. Raises InputError for a licence
    that is not a name.
    """
    model = str(_of(config, "model.model"))
    sections = [
        front_matter(licence=subject.licence, tags=["catlip", "wordnet", "multi-label"], labelled=subject.classifier),
        f"# {in_markdown(subject.title)}\n",
        f"A {in_markdown(model)} of timm, pre-trained to tell which WordNet synsets the captions of a picture name, as "
        f"in CatLIP (arXiv 2404.15653). {_what(subject, config, vocabulary)}\n",
        f"## Loading\n\n{loading}",
        f"## Numbers\n\n{_numbers(subject, results)}",
        f"## Training\n\n{_training(subject, config, results)}",
        f"## Classes\n\n{classes(vocabulary)}",
        f"## Limits\n\n{LIMITS}",
        f"## Licence\n\n{licences(subject.licence)}",
    ]
    return "\n".join(sections)


def front_matter(*, licence: str, tags: Sequence[str], labelled: bool) -> str:
    """YAML that the Hub reads. Raises InputError for a licence that is not a name such as apache-2.0."""
    if re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,63}", licence) is None:
        raise InputError(
            "--licence",
            found=repr(licence),
            wanted="the Hub's name of a licence",
            remedy="For example apache-2.0, cc-by-4.0, or other.",
        )
    task = "image-classification" if labelled else "image-feature-extraction"
    lines = [
        f"license: {licence}",
        "library_name: timm",
        f"pipeline_tag: {task}",
        "tags:",
        *(f"- {json.dumps(tag)}" for tag in ["timm", task, *tags]),
    ]
    return "---\n" + "\n".join(lines) + "\n---\n"


def classes(vocabulary: Vocabulary) -> str:
    """Number and source of the classes, with the most frequent ones."""
    names = ", ".join(map(in_markdown, vocabulary.names[:SHOWN_CLASSES]))
    counted = f"in at least {vocabulary.min_count:,} of {vocabulary.rows:,} captions"
    if not vocabulary.rows:
        counted = f"counted at least {vocabulary.min_count:,} times"
    return (
        f"{len(vocabulary):,} WordNet 3.0 noun synsets, each {counted}, the most frequent "
        f"first: {names}{', ...' if len(vocabulary) > SHOWN_CLASSES else ''}\n\n"
        f"vocabulary.parquet has them in the classifier's order; its fingerprint is\n{vocabulary.fingerprint}.\n"
    )


def licences(licence: str) -> str:
    """Licences of the weights and of the class names."""
    weights = (
        'The weights: "other" above stands until whoever trained them says under what licence they are.'
        if licence == "other"
        else f"The weights: {in_markdown(licence)}, as their trainer says."
    )
    return (
        f"{weights} Names, lemmas and offsets of the classes come from WordNet 3.0, Princeton University, under the\n"
        "WordNet licence; its text goes with them (LICENSE.wordnet).\n"
    )


def _what(subject: Subject, config: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    makes = "a softmax makes shares" if is_softmax(_of(config, "loss.loss")) else "a sigmoid makes probabilities"
    gives = (
        f"It gives one logit for each of {len(vocabulary):,} synsets; {makes} of them."
        if subject.classifier
        else "The classifier was left out: it gives features."
    )
    seen = f", which saw {subject.images_seen:,} images" if subject.images_seen is not None else ""
    return f"{gives} These weights are the {in_markdown(subject.origin)}{seen}."


def _numbers(subject: Subject, results: ResultsFile | None) -> str:
    record = results.of("pretrain") if results is not None else None
    if record is None:
        return "These weights have not been evaluated.\n"
    scored = record.extra
    rows: list[tuple[str, object]] = [
        ("mean average precision, mean of classes", _score(scored["macro"])),
        ("the same from class frequencies alone", _score(scored["baseline_macro"])),
        ("head: most frequent third of the classes", _score(scored["head"])),
        ("torso: middle third", _score(scored["torso"])),
        ("tail: least frequent third", _score(scored["tail"])),
        ("average precision over all pairs of image and class", _score(scored["micro"])),
        ("the same from class frequencies alone", _score(scored["baseline_micro"])),
        ("images whose most probable class is one of their labels", score_text("top1", scored["top1"])),
        ("held-out images", f"{scored['images']:,}"),
        ("classes with an image among them", f"{scored['classes']:,}"),
    ]
    note = "" if subject.classifier else "\nThey are those of the classifier that was left out here.\n"
    return markdown_table(("on held-out images, labelled by their captions", ""), rows) + f"\n{note}"


def _training(subject: Subject, config: Mapping[str, Any], results: ResultsFile | None) -> str:
    fields = [(name.partition(".")[2].replace("_", " "), _of(config, name)) for name in TRAINED_WITH]
    rows: list[tuple[str, object]] = [
        ("architecture", _of(config, "model.model")),
        *((name, _of(config, f"model.{name.replace(' ', '_')}")) for name in ("patch size", "embed dim", "depth")),
        ("first weights", source_name(str(first)) if (first := _of(config, "model.init")) is not None else None),
        ("data", ", ".join(source_name(str(source)) for source in _of(config, "data.images") or ())),
        ("images seen", f"{subject.images_seen:,}" if subject.images_seen is not None else None),
        *fields,
    ]
    accounts: list[tuple[str, str]] = []
    if results is not None and (record := results.of("pretrain")) is not None:
        details = results.details
        rows += [
            ("parameters, classifier included", f"{details['parameters']:,}"),
            ("seconds of training", f"{record.seconds:,.0f} on {details['processes']} x {details['device']}"),
        ]
        account = details["training_account"]
        accounts = [(meaning, f"{account[name]:,}") for name, meaning in ACCOUNT.items() if name in account]
    kept = [(name, value) for name, value in rows if value is not None]
    parts = [markdown_table(("option", "value"), kept)]
    if accounts:
        parts.append(markdown_table(("samples, over all epochs", ""), accounts))
    return "\n\n".join(parts) + "\n"


def source_name(source: str) -> str:
    """Last two parts of an address of images, without labels, host, query or command: safe to publish."""
    if source.startswith("pipe:"):
        return "a command"
    location = re.split(r"[?#]", source.partition("::")[0])[0]
    inside = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/]*", "", location)
    return "/".join(part for part in PurePosixPath(inside).parts[-2:] if part != "/")


def _score(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _of(config: Mapping[str, Any], name: str) -> Any:
    part, _, field = name.partition(".")
    return config.get(part, {}).get(field)
