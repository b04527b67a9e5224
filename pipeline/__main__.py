"""Captions to label shards, at any scale.

python -m pipeline label     captions -> label shards, on Spark
python -m pipeline prune     counts -> vocabulary, in seconds
python -m pipeline report    labels -> one HTML page that shows what they hold
python -m pipeline explain   a caption -> its labels, and why
python -m pipeline check     labels against image tars: what has no label, what no image
python -m pipeline align     labels made by id -> labels of the images downloaded later
python -m pipeline verify    two labelers on a sample of your captions
python -m pipeline sample    draw a data set to try everything on
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vocab.errors import InputError, run_cli
from vocab.pages.text import shown, tell

if TYPE_CHECKING:
    from pipeline.config import Align, Check, Explain, Label, Prune, Report, SampleConfig, Verify
    from vocab.store.manifest import Manifest


def main() -> None:
    """Read the command line and run its verb."""
    # Imported here, so that a Ctrl-C while they load is handled like any other.
    from pipeline.config import Align, Check, Explain, Label, Prune, Report, SampleConfig, Verify
    from vocab.command_line import Verb, read_options

    verbs = {
        "label": Verb(Label),
        "prune": Verb(Prune),
        "report": Verb(Report),
        "explain": Verb(Explain, takes_words=True),
        "check": Verb(Check),
        "align": Verb(Align),
        "verify": Verb(Verify),
        "sample": Verb(SampleConfig),
    }
    run_verb(read_options("python -m pipeline", verbs, sys.argv[1:], about="Captions to label shards, at any scale."))


def run_verb(options: Label | Prune | Report | Explain | Check | Align | Verify | SampleConfig) -> None:
    """Run the verb of the options, and print its result."""
    from pipeline.config import Align, Check, Explain, Label, Prune, Report, Verify
    from pipeline.explain import explain
    from pipeline.prune import preview, prune
    from vocab.user_lexicon import read_lexicon

    if isinstance(options, Label):
        run_label(options)
    elif isinstance(options, Prune):
        said = preview(options) if options.out is None else f"{options.out}: {prune(options)}\n"
        tell(said, to=sys.stdout)
    elif isinstance(options, Report):
        # Pages need jinja2, which no other verb does.
        from pipeline.report.story import report

        tally = report(options)
        tell(f"{options.out}: {len(tally.synsets):,} synsets in {tally.rows:,} captions\n", to=sys.stdout)
    elif isinstance(options, Explain):
        lexicon = None if options.lexicon is None else read_lexicon(options.lexicon)
        tell(explain(options.captions, lexicon), to=sys.stdout, has_captions=True)
    elif isinstance(options, Check):
        from pipeline.check import run_check

        run_check(options)
    elif isinstance(options, Align):
        from pipeline.align.story import run_align

        run_align(options)
    elif isinstance(options, Verify):
        from pipeline.verify import run_verify

        run_verify(options)
    else:
        # Drawing needs Pillow and nothing of Spark; labelling the reverse.
        from pipeline.sample.draw import draw_sample

        draw_sample(options)


def run_label(options: Label) -> None:
    """Run the job in a session of its own and report the result."""
    from pipeline.run import label_captions, look_before
    from pipeline.session import spark_session
    from vocab.store.locations import refuse_unwritable

    # Spark takes long to start; check first what needs no Spark.
    refuse_unwritable(options.out)
    if options.log is not None:
        refuse_unwritable(options.log)
        if options.log.is_dir():
            raise InputError(options.log, found="a folder", wanted="a file to append to", remedy="Name a file in it.")
    manifest = look_before(options)
    if manifest is None:
        with spark_session(options.master, name="catlip labels") as spark:
            manifest = label_captions(spark, options)
    merged = f" + {manifest.merged:,} merged" if manifest.merged else ""
    tell(
        f"{options.out}: {manifest.rows:,} rows = {manifest.labelled:,} labelled + {manifest.empty:,} empty + "
        f"{manifest.rejected:,} rejected{merged}\n",
        to=sys.stdout,
    )
    tell(why_empty(manifest) + what_was_rejected(options.out, manifest), to=sys.stdout)


def why_empty(manifest: Manifest) -> str:
    """Lines about rows without a label by reason, and about labels that have none at all."""
    from vocab.empty_reasons import counts_by_reason

    reasons = counts_by_reason(manifest.empty_reasons)
    said = f"empty{', before rows were joined' if manifest.merged else ''}: {reasons}\n" if reasons else ""
    if manifest.rows and not manifest.labelled:
        why = reasons or ("every row was rejected" if manifest.rejected == manifest.rows else "no reason is known")
        said = f"nothing was labelled: {why}\n"
    return said


def what_was_rejected(out: str, manifest: Manifest) -> str:
    """Lines about rejects by reason, and about files that gave no row or were not read to the end."""
    said = ""
    if manifest.rejected:
        from pipeline.reading.tars import HOW_TO_REPEAT_NONE
        from pipeline.reject_reasons import REPEATED_KEY
        from pipeline.report.tally import reasons_of
        from vocab.store.label_shards import LabelShards

        reasons = reasons_of(LabelShards.open(out, checksums=False))
        said += "rejected: " + ", ".join(f"{count:,} {shown(reason)}" for reason, count in reasons.items()) + "\n"
        if REPEATED_KEY in reasons:
            said += f"{HOW_TO_REPEAT_NONE}\n"
    for files, what in (
        (
            [file for file in manifest.inputs if file.rows and file.rejected == file.rows],
            "whose every row was rejected",
        ),
        ([file for file in manifest.inputs if file.unreadable], "not read to the end"),
    ):
        if files:
            names = ", ".join(shown(file.path) for file in files[:3]) + (", ..." if len(files) > 3 else "")
            said += f"{len(files):,} of {len(manifest.inputs):,} files {what}: {names}\n"
    return said


if __name__ == "__main__":
    run_cli(main)
