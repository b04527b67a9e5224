"""Speed of the labeler on the captions of six corpora: one process, one thread.

    python benchmarks/labels.py [--runs 5] [--batch 32768] [--data DIR] [--lexicon 10000]

In: captions/ of the folder with real data (CATLIP_DATA), gold/ for the tagger of the released rule. Out: captions/s and
words/s, of all and of each corpus; the peer's; time to load and memory; last, one JSON object.

What is timed is `labeler.load().label` of Arrow arrays, each text once, in batches of `--batch`. The tables are loaded
beforehand, and what is built lazily is built on a handful of captions that are none of the corpora's. Between passes
nothing is kept but these tables: neither texts nor words nor labels are remembered, so every pass does all the work.
Captions/s counts the short texts, of at most 30 words between white space; words/s counts the words of all texts.

Headline figures are by the wall clock, which other work on the machine slows down; beside them stand those by the
processor's clock (`_cpu`), which counts all threads of the process.

The peer is the rule of CatLIP's released code (`vocab.reference`), on a sample of the same short texts. It remembers
each word's synset, and has met all words of the sample before the passes that count: the case that suits it best. What
the released code itself does, with a part-of-speech tag for each word that it never looks at, is timed on a smaller
sample where a treebank is at hand to train such a tagger, by the processor's clock.

`--lexicon N` also times the labeler with N entries of a user's: words and phrases of the same captions, so that many
are found, and words that no caption holds. Passes without and with them alternate.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script or with -m: the project's modules are found, and numerical libraries keep to
    # one thread, which they must be told before they are imported
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import gc
import importlib.util
import json
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import tyro

from benchmarks.labelling.sources import evenly, is_short, read_sources, word_count
from benchmarks.measuring.setting import DATA, machine
from vocab import labeler
from vocab.cleaning import clean_all
from vocab.errors import run_cli
from vocab.labeler import Labeler
from vocab.user_lexicon import UserLexicon, lexicon_in

if TYPE_CHECKING:
    from benchmarks.labelling.naive_reference import Tools
    from vocab.reference import ReferenceLabeler

# Builds all that is built lazily: unknown words, nouns of several words, names, accents, other languages, nothing.
WARM_UP = (
    "Two Golden Retrievers asleep on a couch near the White House",
    "a white house, zorbification of the dog's ball-game",
    "Caf&eacute;%20<b>dog</b> naïve 日本 http://example.com/dog.jpg",
    "der Hund und die Katze sind nicht hier",
    "",
)
LOAD = """
import json, resource, sys, time
start = time.perf_counter()
import numpy
import pyarrow
from vocab import labeler
# The captions are the caller's; making its first array from a list has pyarrow import pandas, where that is installed.
captions = pyarrow.array(json.loads(sys.argv[1]))
imported = time.perf_counter()
labeler.load().label(captions)
ready = time.perf_counter()
try:  # of this program alone; getrusage's also holds the peak of the process that started it
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
except (OSError, StopIteration):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"import": imported - start, "load": ready - imported, "kilobytes": peak}))
"""


@dataclass(frozen=True)
class Labels:
    """Speed of the labeler on the captions of six corpora."""

    data: Path = DATA
    """folder with captions/ and gold/"""
    batch: int = labeler.AT_ONCE
    """captions in an array"""
    runs: int = 5
    """timed passes; the median counts"""
    sample: int = 3_000
    """short captions that the peer is timed on"""
    released_sample: int = 600
    """captions of the sample for the released code with its tagging; 0 for none"""
    load_runs: int = 5
    """fresh processes that load the tables"""
    lexicon: int = 0
    """entries of a user's lexicon that the labeler is timed with as well; 0 for none"""


@dataclass(frozen=True)
class Seconds:
    """Seconds of one pass."""

    wall: float
    cpu: float


def measure(options: Labels) -> dict[str, object]:
    """Measure everything; prints as it goes, returns the JSON object."""
    pa.set_cpu_count(1)
    result = load_costs(options.load_runs)
    sources = read_sources(options.data)
    ours = labeler.load()
    ours.label(pa.array(WARM_UP))
    everything = [text for texts in sources.values() for text in texts]
    short = [text for text in everything if is_short(text)]

    with tempfile.TemporaryDirectory() as folder:
        peer = find_peer(Path(folder))
        result |= of_short(ours, peer, short, options)
        if peer is not None:
            result |= of_released(ours, peer, short, options)
    result |= rates("words", total_words(everything), passes_over(ours, everything, options))
    result |= {"captions": len(short), "texts": len(everything), "words": total_words(everything)}
    result["sources"] = {name: of_source(ours, name, texts, options) for name, texts in sources.items()}
    if options.lexicon:
        result["lexicon"] = of_lexicon(ours, short, options)
    return result | {"runs": options.runs, "batch": options.batch, "machine": machine()}


def passes_over(ours: Labeler, texts: Sequence[str], options: Labels) -> list[Seconds]:
    """Time each pass over the texts, without making the arrays."""
    batches = batches_of(texts, options.batch)
    return [timed(lambda: label_all(ours, batches)) for _ in range(options.runs)]


def label_all(ours: Labeler, batches: Sequence[pa.StringArray]) -> None:
    """One pass; its labels are dropped."""
    for batch in batches:
        ours.label(batch)


def batches_of(texts: Sequence[str], size: int) -> list[pa.StringArray]:
    """The texts as arrays of `size`, the last one shorter."""
    return [pa.array(texts[start : start + size], pa.string()) for start in range(0, len(texts), size)]


def timed(work: Callable[[], object]) -> Seconds:
    """Time one run of the work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def median_wall(passes: Sequence[Seconds]) -> float:
    """Median seconds by the wall clock."""
    return statistics.median(seconds.wall for seconds in passes)


def median_cpu(passes: Sequence[Seconds]) -> float:
    """Median seconds by the processor's clock."""
    return statistics.median(seconds.cpu for seconds in passes)


def rates(what: str, count: int, passes: Sequence[Seconds]) -> dict[str, object]:
    """So many of `what` per second: median, best, and median by the processor's clock."""
    key = f"{what}_per_second_per_core"
    found = {
        key: round(count / median_wall(passes)),
        f"{key}_best": round(count / min(seconds.wall for seconds in passes)),
        f"{key}_cpu": round(count / median_cpu(passes)),
    }
    shown = ", ".join(f"{count / seconds.wall:,.0f}" for seconds in passes)
    by_processor = found[f"{key}_cpu"]
    sys.stdout.write(f"{count:,} {what}; {what}/s of each pass: {shown}; median by processor: {by_processor:,}\n")
    return dict(found)


def total_words(texts: Sequence[str]) -> int:
    """Words of all texts, parted by white space."""
    return sum(map(word_count, texts))


def of_source(ours: Labeler, name: str, texts: list[str], options: Labels) -> dict[str, object]:
    """One corpus: rates over all its texts, and the share of them that cleaning had to look at one by one."""
    seconds = median_wall(passes_over(ours, texts, options))
    looked_at = sum(clean_all(batch).looked_at for batch in batches_of(texts, options.batch))
    found = {
        "texts": len(texts),
        "captions_per_second": round(len(texts) / seconds),
        "words_per_second": round(total_words(texts) / seconds),
        "looked_at": round(looked_at / len(texts), 4),
    }
    sys.stdout.write(
        f"{name:<12}{len(texts):>8,} texts{found['captions_per_second']:>10,} captions/s"
        f"{found['words_per_second']:>12,} words/s   off the fast path {found['looked_at']:.2%}\n"
    )
    return dict(found)


@dataclass(frozen=True)
class Peer:
    """The released rule, and what it stands on."""

    labeler: ReferenceLabeler
    tools: Tools


def find_peer(folder: Path) -> Peer | None:
    """The released rule over what is installed, None where NLTK is not; `folder` is for a copy of WordNet."""
    missing = [package for package in ("nltk", "ftfy") if importlib.util.find_spec(package) is None]
    if missing:
        sys.stdout.write(f"the released rule is not timed: no package {' and '.join(missing)}\n")
        return None
    from benchmarks.labelling import naive_reference
    from vocab import reference

    tools = naive_reference.load_tools(folder)
    peer = reference.load(
        wordnet=None if tools.wordnet == "installed" else naive_reference.DEBIAN_WORDNET,
        punkt="installed" if tools.punkt == "installed" else "untrained",
    )
    sys.stdout.write(f"the released rule: {peer.tools}; WordNet {tools.wordnet}, Punkt {tools.punkt}\n")
    peer.label(pa.array(WARM_UP))
    gc.freeze()  # NLTK's millions of objects would be gone through again and again during our passes
    return Peer(peer, tools)


def of_short(ours: Labeler, peer: Peer | None, short: list[str], options: Labels) -> dict[str, object]:
    """Captions/s on the short texts, and the ratios to the peer, whose passes alternate with ours.

    `ratio_to_reference` compares captions/s of ours over all short texts, in full batches, with those of the peer on
    the sample, to which the size of a batch is all one. `ratio_on_same_sample` is the median over pairs of passes.
    """
    batches, sample = batches_of(short, options.batch), pa.array(evenly(short, options.sample), pa.string())
    passes: list[Seconds] = []
    pairs: list[tuple[Seconds, Seconds]] = []
    if peer is not None:
        peer.labeler.label(sample)
    for _ in range(options.runs):
        passes.append(timed(lambda: label_all(ours, batches)))
        if peer is not None:
            pairs.append((timed(lambda: ours.label(sample)), timed(lambda: peer.labeler.label(sample))))
    found = rates("captions", len(short), passes)
    found["words_per_second_short"] = round(total_words(short) / median_wall(passes))
    if peer is None:
        return found | {"ratio_to_reference": None}
    rate = len(sample) / median_wall([theirs for _, theirs in pairs])
    found["ratio_to_reference"] = round(len(short) / median_wall(passes) / rate, 1)
    found["ratio_on_same_sample"] = round(statistics.median(theirs.wall / own.wall for own, theirs in pairs), 1)
    sys.stdout.write(
        f"{rate:,.0f} captions/s of the released rule on {len(sample):,} captions; ours is "
        f"{found['ratio_to_reference']} times that, {found['ratio_on_same_sample']} times on the sample alone\n"
    )
    return found | {
        "reference_captions_per_second": round(rate),
        "reference_sample": len(sample),
        "reference": peer.labeler.tools,
    }


def of_released(ours: Labeler, peer: Peer, short: list[str], options: Labels) -> dict[str, object]:
    """The ratio to the released code with its unused tagging, by the processor's clock, on one small sample."""
    from benchmarks.labelling import naive_reference

    treebank = options.data / "gold" / "en_ewt-train.conllu.gz"
    if not options.released_sample or not treebank.is_file():
        reason = f"no {treebank}" if options.released_sample else "no captions asked for"
        sys.stdout.write(f"the released code with its tagging is not timed: {reason}\n")
        return {"ratio_to_released": None}
    few, sample = evenly(short, options.released_sample), pa.array(evenly(short, options.sample), pa.string())
    tagger = naive_reference.train_tagger(treebank)
    own = median_cpu([timed(lambda: ours.label(sample)) for _ in range(options.runs)])
    rate = len(few) / naive_reference.released_seconds(few, tagger, peer.tools)
    ratio = round(len(sample) / own / rate, 1)
    sys.stdout.write(
        f"{rate:,.0f} captions/s of the released code with its tagging, on {len(few)} captions; ours is {ratio} times "
        f"that on {len(sample):,}\n"
    )
    return {"released_captions_per_second": round(rate), "ratio_to_released": ratio, "released_sample": len(few)}


UNHEARD = 4
"""one in so many entries is a word that no caption holds"""
LONGEST_PHRASE = 3
MEANT = ("dog.n.01", "toy.n.03", "", "self-portrait.n.01")
"""synsets of the entries, in turn; "" for no label"""


def lexicon_of(texts: Sequence[str], entries: int) -> UserLexicon:
    """So many entries: words and phrases of the texts, evenly, and words that nobody uses."""
    found: dict[str, None] = {}
    for number, text in enumerate(texts):
        words = re.findall("[a-z]{3,}", text.lower())
        start, length = number % max(1, len(words)), 1 + number % LONGEST_PHRASE
        if phrase := " ".join(words[start : start + length]):
            found[phrase] = None
    unheard = [f"zq{letters_of(number)}q" for number in range(entries // UNHEARD)]
    chosen = evenly(list(found), entries - len(unheard)) + unheard
    lines = (f"{words} = {MEANT[number % len(MEANT)]}\n" for number, words in enumerate(chosen))
    return lexicon_in("".join(lines), name="drawn")


def letters_of(number: int) -> str:
    """A number in letters: digits of entries are all alike."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def of_lexicon(ours: Labeler, short: Sequence[str], options: Labels) -> dict[str, object]:
    """Seconds with a lexicon over those without it, medians over pairs of passes; and seconds to load it."""
    lexicon = lexicon_of(short, options.lexicon)
    taught: list[Labeler] = []
    loading = timed(lambda: taught.append(labeler.load_with(lexicon)))
    taught[0].label(pa.array(WARM_UP))
    batches = batches_of(short, options.batch)
    pairs = [
        (timed(lambda: label_all(ours, batches)), timed(lambda: label_all(taught[0], batches)))
        for _ in range(options.runs)
    ]
    found: dict[str, object] = {
        "entries": len(lexicon.entries),
        "ratio": round(statistics.median(with_it.wall / without.wall for without, with_it in pairs), 3),
        "ratio_cpu": round(statistics.median(with_it.cpu / without.cpu for without, with_it in pairs), 3),
        "load_seconds_cpu": round(loading.cpu, 2),
        "captions_per_second_cpu": round(len(short) / median_cpu([with_it for _, with_it in pairs])),
        "captions_per_second_cpu_without": round(len(short) / median_cpu([without for without, _ in pairs])),
    }
    sys.stdout.write(
        f"with {len(lexicon.entries):,} entries of a user's {found['ratio']} times the seconds, by processor "
        f"{found['ratio_cpu']}; they take {found['load_seconds_cpu']} s to load\n"
    )
    return found


def load_costs(runs: int) -> dict[str, object]:
    """Median seconds to load and peak memory of fresh processes that have labelled a handful of captions."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", LOAD, json.dumps(WARM_UP)]
    costs = [
        json.loads(subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout)
        for _ in range(runs)
    ]
    found = {
        "load_seconds": round(statistics.median(cost["load"] for cost in costs), 3),
        "import_seconds": round(statistics.median(cost["import"] for cost in costs), 3),
        "memory_mb": round(statistics.median(cost["kilobytes"] for cost in costs) / 1024),
    }
    each = ", ".join(f"{cost['load']:.3f}" for cost in costs)
    sys.stdout.write(
        f"{found['load_seconds']} s to load and build the tables, after {found['import_seconds']} s of imports; "
        f"{found['memory_mb']} MiB at the peak; each time: {each} s\n"
    )
    return dict(found)


def main() -> None:
    """Measure and print."""
    result = measure(tyro.cli(Labels))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    run_cli(main)
