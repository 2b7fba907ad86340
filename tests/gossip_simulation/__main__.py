"""``python -m tests.gossip_simulation FIRST [LAST] [--jobs N]``: bad days of gossip, by seed."""

import argparse
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.gossip_simulation.plan import STRIKES, Plan

SEEDS_ENOUGH = 100
"""In so many runs everything has to go wrong."""


def run(seed):
    """What went wrong, if anything, and which faults struck."""
    plan = Plan(seed)
    try:
        plan.run()
    except AssertionError as error:
        return seed, str(error), plan.struck
    return seed, None, plan.struck


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int, nargs="?", help="seeds up to, not including, this one")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    last = arguments.last or arguments.first + 1
    failed, struck = 0, Counter()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for seed, error, faults in pool.map(run, range(arguments.first, last), chunksize=8):
            struck.update(faults)
            if error is not None:
                failed += 1
                print(f"seed {seed}: {error}", flush=True)  # noqa: T201
    print(f"{last - arguments.first} seeds, {failed} failed")  # noqa: T201
    print(", ".join(f"{fault}: {struck[fault]}" for fault in sorted(STRIKES)))  # noqa: T201
    spared = [fault for fault in STRIKES if not struck[fault]]
    if spared and last - arguments.first >= SEEDS_ENOUGH:
        print(f"never struck: {', '.join(spared)}")  # noqa: T201
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
