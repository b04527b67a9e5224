"""The zip of vocab/ and pipeline/ that Spark's executors need.

    python -m pipeline.rooms dist/rooms.zip

Any Python 3 can make it: this module needs the standard library alone.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS_ZIP = "rooms.zip"


def zip_rooms(target: Path) -> Path:
    """Write both rooms to a zip that appears whole: equal files give equal bytes."""
    files = sorted(
        path
        for room in ("vocab", "pipeline")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    unfinished = target.with_name(f"{target.name}.part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            name = zipfile.ZipInfo(path.relative_to(ROOT).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            name.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(name, path.read_bytes())
    return unfinished.replace(target)


if __name__ == "__main__":
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    print(zip_rooms(Path(sys.argv[1])))
