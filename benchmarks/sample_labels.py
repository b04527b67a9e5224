"""Label quality on the drawn sample, whose truth is known: the synsets that each caption mentions.

    python -m benchmarks.sample_labels [--samples 20000]

In: captions of the sample (no images). Out: precision and recall of the labels against the mentioned synsets, the
most frequent mistakes, and one JSON object. The peer is a plain dictionary look-up of single words: the first sense of
the exact lower-case word, which is about what CatLIP's released rule comes to.
"""

from __future__ import annotations

import collections
import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from pipeline.config import SampleConfig
from pipeline.sample.draw import draw_sample
from vocab import labeler, wordnet
from vocab.errors import run_cli


@dataclass(frozen=True)
class SampleLabels:
    """Precision and recall of the labels on the drawn sample."""

    samples: int = 20_000
    """captions to draw"""
    seed: int = 1
    """seed of the sample"""


def measure(options: SampleLabels) -> dict[str, object]:
    """Draw captions, label them twice, compare."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "captions"
        draw_sample(SampleConfig(out=out, samples=options.samples, seed=options.seed, mode="captions"))
        rows = pa.concat_tables(pq.read_table(file) for file in sorted(out.glob("*.parquet")))
    rows = rows.filter(pa.compute.equal(rows["status"], "success"))
    captions = rows["caption"].combine_chunks().fill_null("")
    truth = [set(synsets) for synsets in rows["mentioned"].to_pylist()]
    kinds = set().union(*truth)
    ours = [set(synsets) for synsets in labeler.load().label(captions).to_pylist()]
    plain = first_senses()
    peer = [{plain[w] for w in re.findall(r"[a-z]+", c.lower()) if w in plain} for c in captions.to_pylist()]
    print_mistakes(ours, truth, kinds)
    result: dict[str, object] = {"samples": len(truth)}
    for name, found in (("labeler", ours), ("dictionary", peer)):
        # Only the drawn kinds are judged: a caption may rightly name a beach that is no object of the scene.
        hits = sum(len(f & t) for f, t in zip(found, truth, strict=True))
        result[f"{name}_precision"] = round(hits / max(1, sum(len(f & kinds) for f in found)), 4)
        result[f"{name}_recall"] = round(hits / sum(map(len, truth)), 4)
    result["other_labels_per_caption"] = round(sum(len(f - kinds) for f in ours) / len(ours), 3)
    return result


def first_senses() -> dict[str, int]:
    """Single-word lemma -> offset of its first sense."""
    nouns = wordnet.load()
    first = nouns.synsets[nouns.sense_synsets[nouns.sense_starts[:-1]]].tolist()
    return dict(zip(nouns.lemmas.to_pylist(), first, strict=True))


def print_mistakes(found: list[set[int]], truth: list[set[int]], kinds: set[int]) -> None:
    """The synsets most often missed, and labelled without being mentioned."""
    nouns = wordnet.load()
    missed = collections.Counter(s for f, t in zip(found, truth, strict=True) for s in t - f)
    wrong = collections.Counter(s for f, t in zip(found, truth, strict=True) for s in (f - t) & kinds)
    other = collections.Counter(s for f in found for s in f - kinds)
    for title, counter in (("missed", missed), ("wrong", wrong), ("other labels", other)):
        head = " ".join(f"{nouns.name_of(nouns.row_of(s))}:{n}" for s, n in counter.most_common(20))
        sys.stdout.write(f"{title}: {head}\n")


def main() -> None:
    """Measure and print."""
    result = measure(tyro.cli(SampleLabels))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    run_cli(main)
