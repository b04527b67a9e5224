"""Spark's Python daemon as the tests' session runs it: workers are forks of a process that has loaded what tasks need.

A worker that met an error ends, and the next one would import and unpack everything again.
"""

from __future__ import annotations

import gc

from pyspark.daemon import manager

import pipeline.align.story
import pipeline.check
import pipeline.labeling
import pipeline.run  # noqa: F401
from vocab import labeler

if __name__ == "__main__":
    labeler.load()
    gc.freeze()
    manager()
