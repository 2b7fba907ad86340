"""``python -m fuzz.replay TARGET [FILE ...]``: check these inputs, or the corpus and mutants of it.

Needs no fuzzer. Prints each input's name before it is checked, since one may end the process.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from fuzz.seed import CORPUS
from fuzz.targets import NAMES, target

SEED = 7
MUTANTS = 1000


def inputs(name: str, files: Sequence[Path] = ()) -> list[tuple[str, bytes]]:
    """The given inputs, or all of the corpus, by file name."""
    paths = files or sorted((CORPUS / name).iterdir())
    return [(path.name, path.read_bytes()) for path in paths]


def mutants(name: str, count: int = MUTANTS, seed: int = SEED) -> Iterator[tuple[str, bytes]]:
    """Damaged inputs of the corpus: the same for the same seed."""
    rng = random.Random(seed)
    pool = inputs(name)
    for number in range(count):
        origin, data = rng.choice(pool)
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            _damage(changed, rng)
        yield f"{origin}, mutant {number} of seed {seed}", bytes(changed)


def _damage(data: bytearray, rng: random.Random) -> None:
    if not data:
        return
    at, size = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 8))
    match rng.randrange(4):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at : at + size] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size
        case 2:
            del data[at : at + size]
        case _:
            data[at:at] = data[at : at + size]


def main() -> None:
    """Check them all; whatever breaks ends the process."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.replay", description=__doc__)
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("files", type=Path, nargs="*")
    chosen = parser.parse_args()
    faulthandler.enable()
    check = target(chosen.target).check
    for name, data in inputs(chosen.target, chosen.files):
        print(name, flush=True)
        check(data)
    if not chosen.files:
        for name, data in mutants(chosen.target):
            print(name, flush=True)
            check(data)


if __name__ == "__main__":
    main()
