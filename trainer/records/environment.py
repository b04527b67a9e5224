"""environment.json: machine, code and versions of every start of a run.

    [{"started": "2025-11-25T04:00:19+00:00", "step": 0, "command": ["pretrain", "sample", "--images", ...],
      "versions": {"python": "3.11.7", "torch": "2.14.1+cu130", ...}, "cuda": {"runtime": "13.0", "gpus": [...], ...},
      "machine": {"cpu": "...", "cores": 16, "memory_bytes": 137438953472}, "processes": 8, "device": "cuda:0",
      "git": {"commit": "...", "changed": false}, "variables": {"OMP_NUM_THREADS": "4"}, "own_sha256": "..."}]

Run directories are passed on, so what names a person or a machine is left out: host, user, passwords in locations.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from trainer.distributed import Rank
from vocab.errors import FormatError
from vocab.pages.text import tell
from vocab.store.files import write_whole
from vocab.store.sealing import sealed, without_seal
from vocab.store.secrets import without_secrets

FILE, DAMAGED = "environment.json", "environment.damaged.json"
# Packages whose version can change a run's numbers or its speed.
PACKAGES = tuple(
    "torch torchvision timm triton numpy pyarrow pillow simplejpeg safetensors fsspec tensorboard wandb "
    "faster-coco-eval".split()
)
# Variables that change what is computed, on what, or how fast.
VARIABLES = re.compile(
    r"(CUDA|CUBLAS|CUDNN|NCCL|GLOO|OMP|MKL|OPENBLAS|KMP|TORCH\w*|PYTORCH|TRITON|NVIDIA_TF32)_\w+|WORLD_SIZE|"
    r"PYTHONHASHSEED|WANDB_MODE|LD_PRELOAD|MALLOC_\w+"
)
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|REDIS")
GIT_SECONDS = 20.0


def environment(rank: Rank, *, step: int) -> dict[str, Any]:
    """This start of a run, JSON values only; `step`: the steps taken before it. Nothing in it is a secret."""
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": step,
        "command": [without_secrets(word) for word in sys.argv[1:]],
        "versions": versions(),
        "cuda": cuda(),
        "machine": machine(),
        "processes": rank.world,
        "device": str(rank.device),
        "git": git(Path(__file__).resolve().parents[1]),
        "variables": variables(os.environ),
    }


def record_start(run: Path, start: Mapping[str, Any]) -> None:
    """Add a start to environment.json, which is written whole. For the main process alone.

    A damaged file stops no run, for only people read it: it is put aside, and stderr says so.
    """
    try:
        earlier = read_starts(run)
    except FormatError as error:
        (run / FILE).replace(run / DAMAGED)
        tell(f"warning: {error} It is now {DAMAGED}, and {FILE} begins anew.\n")
        earlier = []
    with write_whole(run / FILE) as file:
        file.write((json.dumps([*map(sealed, earlier), sealed(start)], indent=2) + "\n").encode())


def read_starts(run: Path) -> list[dict[str, Any]]:
    """Read the starts of a run, oldest first; none before the first.

    Raises FormatError for a file of something else, and for a start that does not match its checksum.
    """
    path = run / FILE
    if not path.exists():
        return []
    try:
        starts = json.loads(path.read_bytes())
        if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
            raise ValueError("no list of objects")
        return [without_seal(path, start) for start in starts]
    except (ValueError, RecursionError) as error:
        raise FormatError(
            path,
            found=f"something other than a list of starts ({error})",
            wanted="the file that earlier starts of this run wrote",
            remedy="Copy it again from where it is whole.",
        ) from error


def versions() -> dict[str, str | None]:
    """Versions of Python and of `PACKAGES`; null where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def cuda() -> dict[str, Any] | None:
    """Versions of CUDA, its libraries and the driver, and the GPUs that this process sees; null without a GPU."""
    if not torch.cuda.is_available():
        return None
    cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return {
        "runtime": torch.version.cuda,
        "driver": driver(Path("/proc/driver/nvidia/version")),
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if dist.is_nccl_available() else None,  # type: ignore[no-untyped-call]
        "gpus": [
            {"name": card.name, "memory_bytes": card.total_memory, "capability": f"{card.major}.{card.minor}"}
            for card in cards
        ],
    }


def driver(report: Path) -> str | None:
    """Read the version in the report of the NVIDIA kernel module; null where there is none."""
    return _first_in(report, r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s")


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in bytes, system; no host name."""
    return {
        "cpu": processor(Path("/proc/cpuinfo")),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def processor(report: Path) -> str | None:
    """Read the first model name in /proc/cpuinfo; null where there is none, as on many ARM machines."""
    return _first_in(report, r"^model name\s*:\s*(.+?)\s*$")


def _first_in(report: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, report.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return found[1] if found else None


def git(folder: Path) -> dict[str, Any]:
    """Commit of the checkout that `folder` is tracked in, and whether tracked files were changed since.

    {"commit": null, "changed": null, "reason": "..."} where git is absent or `folder` belongs to no checkout: an
    installed copy inside another repository does not belong to that repository.
    """
    try:
        tracked = _git(folder, "ls-files", "--error-unmatch", "--", ".")
        commit = _git(folder, "rev-parse", "HEAD") if tracked else ""
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else ""
    except (OSError, subprocess.SubprocessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
        return {"commit": None, "changed": None, "reason": " ".join((said or str(error)).split())[:200]}
    return {"commit": commit.strip(), "changed": bool(changed.strip())}


def _git(folder: Path, *words: str) -> str:
    # Looking must not write: status would refresh the index, and another git may hold its lock.
    ran = subprocess.run(
        ["git", "-C", str(folder), *words],
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        text=True,
        errors="replace",
        timeout=GIT_SECONDS,
    )
    return ran.stdout


def variables(given: Mapping[str, str]) -> dict[str, str]:
    """Pick the environment variables that change results; none whose name suggests a secret."""
    return {
        name: without_secrets(value)
        for name, value in sorted(given.items())
        if VARIABLES.fullmatch(name) and not SECRET.search(name)
    }
