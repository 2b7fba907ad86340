"""``python -m benchmarks``: run them and show the tables."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
from pathlib import Path

from benchmarks.contest import hold
from benchmarks.process import PeerMissing, descendants, end_all
from benchmarks.report import environment, to_json, to_markdown, to_text
from benchmarks.settings import Settings

NAMES = (
    "stream",
    "small",
    "barrier",
    "stalled",
    "repartition",
    "cuts",
    "parquet",
    "memory",
    "gossip",
)
DOCS = Path("docs/benchmarks.md")
REPEATS_QUICK = 2


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Laminar and its peers, alternately, in one run on this machine.",
    )
    parser.add_argument("--only", choices=NAMES, action="append", help="may be given repeatedly")
    parser.add_argument("--repeats", type=int, default=5, help="after a warm-up (default 5)")
    parser.add_argument("--quick", action="store_true", help="little data, two repeats")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the samples there")
    parser.add_argument("--write-docs", action="store_true", help=f"write {DOCS}")
    parser.add_argument("--cache", type=Path, default=Path("build/bench-data"))
    parser.add_argument("--scratch", type=Path, default=Path("build/bench-scratch"))
    chosen = parser.parse_args()
    if chosen.repeats < 1:
        parser.error("--repeats has to be at least 1")
    if chosen.write_docs and (chosen.only or chosen.quick):
        parser.error("--write-docs takes the whole run, without --only and --quick")
    return chosen


def main() -> int:
    """Run the benchmarks: 0, or 1 when something failed (missing peers and targets aside)."""
    chosen = arguments()
    # Asked to end, unwind as for Ctrl-C: the children are stopped on the way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = Settings(
        cache=chosen.cache.absolute(),
        scratch=chosen.scratch.absolute(),
        repeats=REPEATS_QUICK if chosen.quick else chosen.repeats,
        quick=chosen.quick,
    )
    shutil.rmtree(settings.logs, ignore_errors=True)
    outcomes = []
    try:
        for name in chosen.only or NAMES:
            for contest in importlib.import_module(f"benchmarks.{name}").contests(settings):
                outcomes.append(hold(contest, settings.repeats))
                print(to_text(outcomes[-1]), flush=True)
    except PeerMissing as missing:
        print(f"no input: {missing}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        # An interrupt may come between the start of a child and the first line that knows it.
        end_all(descendants(os.getpid())[1:])
    about = environment()
    if chosen.json:
        chosen.json.write_text(to_json(outcomes, about, settings.repeats))
    if chosen.write_docs:
        DOCS.write_text(to_markdown(outcomes, about, settings.repeats))
    return 1 if any(outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
