"""``python -m fuzz``: fuzz the targets one after the other, and record what came out."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from fuzz.minimise import minimise
from fuzz.record import Record
from fuzz.seed import CORPUS
from fuzz.targets import NAMES, target

SECONDS = 60
CRASHES_MAX = 20
MINIMISE_SECONDS = 60.0
GRACE_SECONDS = 60.0
LIMITS = ("-timeout=20", "-rss_limit_mb=2048")
BYTES_MAX = {
    "frames": 1024,
    "control": 1024,
    "inbound": 1024,
    "arrow": 4096,
    "seal": 1024,
    "gossip": 256,
}
FINDS = ("crash-*", "timeout-*", "oom-*", "leak-*")
LOG_LINES_SHOWN = 15


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--only", choices=NAMES, action="append", help="may be given repeatedly")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target")
    parser.add_argument("--runs", type=int, help="end a target after so many inputs")
    parser.add_argument("--work", type=Path, default=Path("build/fuzz"), help="what is found")
    chosen = parser.parse_args()
    if chosen.seconds < 1:
        parser.error("--seconds has to be at least 1")
    return chosen


def main() -> int:
    """Fuzz: 0, or 1 when something was found."""
    chosen = arguments()
    found = False
    for name in chosen.only or NAMES:
        record = fuzz(name, chosen.work / name, chosen.seconds, chosen.runs)
        found |= record.crashes > 0
        (chosen.work / name / "last_run.json").write_text(_to_json(name, record))
        print(
            f"{name}: {record.runs:,} runs in {record.seconds:.0f} s, {record.new_coverage} new "
            f"branches ({record.coverage} in all), {record.crashes} crashes",
            flush=True,
        )
    return 1 if found else 0


def fuzz(name: str, work: Path, seconds: int, runs: int | None) -> Record:
    """Fuzz one target for ``seconds``; goes on behind a crash, which is kept below ``work``."""
    found, crashes = work / "corpus", work / "crashes"
    found.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(exist_ok=True)
    kept = CORPUS / name
    record = Record()
    started = time.monotonic()
    while (left := seconds - round(time.monotonic() - started)) > 0:
        before = _finds(crashes)
        command = [sys.executable, "-m", "fuzz.engine", name, str(found), str(kept), *LIMITS]
        command += [f"-max_len={BYTES_MAX[name]}"]
        command += [f"-max_total_time={left}", f"-artifact_prefix={crashes}/"]
        command += ["-print_final_stats=1"]
        if runs is not None:
            command.append(f"-runs={max(1, runs - record.runs)}")
        done = subprocess.run(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=left + GRACE_SECONDS,
            check=False,
        )
        log = done.stderr.decode(errors="replace").splitlines()
        record.add(log)
        new = sorted(_finds(crashes) - before)
        if done.returncode == 0:
            break
        record.crashes += max(1, len(new))
        print("\n".join([f"!! {name}", *log[-LOG_LINES_SHOWN:]]), file=sys.stderr, flush=True)
        _minimise_all(name, new)
        if record.crashes >= CRASHES_MAX or not new:
            break
    record.seconds = time.monotonic() - started
    return record


def _minimise_all(name: str, crashes: Sequence[Path]) -> None:
    for crash in crashes:
        small = minimise(target(name).check, crash.read_bytes(), MINIMISE_SECONDS)
        crash.with_name(f"small-{crash.name}").write_bytes(small)


def _finds(folder: Path) -> set[Path]:
    return {path for pattern in FINDS for path in folder.glob(pattern)}


def _to_json(name: str, record: Record) -> str:
    told = {
        "target": name,
        **asdict(record),
        "new_coverage": record.new_coverage,
        "python": platform.python_version(),
        "pyarrow": version("pyarrow"),
        "atheris": version("atheris"),
    }
    return json.dumps(told, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
