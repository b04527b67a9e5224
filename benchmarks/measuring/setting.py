"""Setting of a benchmark: the machine, the folder of real data, the report on the terminal."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pyarrow as pa

DATA = Path(os.environ.get("CATLIP_DATA", "../shared/data"))
"""folder with real captions/, images/, gold/ and lists/"""


def machine() -> str:
    """Name the processor and the versions that matter: "AMD EPYC 7B13, 2 cores, Python 3.11.2, pyarrow 21.0.0"."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, pyarrow {pa.__version__}"


def say(line: str) -> None:
    """Write one line of the report, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
