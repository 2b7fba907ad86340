"""Runs seeds of the fabric's simulator, and says how to repeat those that fail.

python -m tests.simulation 1234             one seed, with the end of its trace
python -m tests.simulation 1000 51000       from the first, up to the second
python -m tests.simulation 0 2000 --jobs 2  in so many processes
"""

import argparse
import sys
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.simulation.ledger import Violation
from tests.simulation.plan import plan_of
from tests.simulation.world import run_seed

CHUNK = 200


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", type=int, help="the first seed")
    parser.add_argument("end", type=int, nargs="?", help="the first one not to run")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    args = parser.parse_args()
    if args.end is None:
        return show(args.first)
    return run(args.first, args.end, args.jobs)


def show(seed: int) -> int:
    """Run one seed and tell all about it."""
    print(plan_of(seed))
    try:
        outcome = run_seed(seed)
    except Violation:
        traceback.print_exc()
        return 1
    print(f"{outcome.turns} turns, {outcome.virtual_s:g} virtual seconds, trace {outcome.digest}")
    print("faults:", ", ".join(f"{name} {count}" for name, count in outcome.fired.items()))
    return 0


def run(first: int, end: int, jobs: int) -> int:
    """Run seeds ``first`` to ``end`` (excluded) and sum up."""
    fired: Counter[str] = Counter()
    failures = done = 0
    starts = range(first, end, CHUNK)
    with ProcessPoolExecutor(jobs) as pool:
        chunks = [pool.submit(chunk, start, min(start + CHUNK, end)) for start in starts]
        for finished in as_completed(chunks):
            bitten, broken = finished.result()
            fired += bitten
            done += CHUNK
            for seed, why in broken:
                failures += 1
                print(f"seed {seed}: {why}\n    repeat: python -m tests.simulation {seed}")
            print(f"{min(done, end - first)} seeds, {failures} failed", file=sys.stderr)
    print(f"seeds in which each fault bit: {dict(fired.most_common())}")
    print(f"{end - first} seeds from {first}: {failures} failed")
    return 1 if failures else 0


def chunk(first: int, end: int) -> tuple[Counter[str], list[tuple[int, str]]]:
    """Seeds in which each fault bit, and those that failed, with the reason."""
    fired: Counter[str] = Counter()
    broken = []
    for seed in range(first, end):
        try:
            fired.update(run_seed(seed).fired.keys())
        except Violation as violation:
            broken.append((seed, str(violation)))
    return fired, broken


if __name__ == "__main__":
    sys.exit(main())
