"""The inside of one fuzzing process: ``python -m fuzz.engine TARGET [libFuzzer's options]``."""

from __future__ import annotations

import random
import sys

import atheris

INTERESTING = (0, 1, 2, 3, 4, 7, 8, 16, 64, 127, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32)


def mutate(data: bytes, bytes_max: int, seed: int) -> bytes:
    """Half the time what libFuzzer does; else change an aligned integer, as Arrow is made of."""
    rng = random.Random(seed)
    if rng.random() < 0.5 or len(data) < 16:
        mutated: bytes = atheris.Mutate(data, bytes_max)
        return mutated
    # Bodies begin after the entry's three bytes, and everything in them is aligned from there.
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        size = rng.choice((1, 2, 4, 4, 4, 8, 8))
        slots = (len(changed) - 3) // size
        start = 3 + size * rng.randrange(slots)
        value = int.from_bytes(changed[start : start + size], "little")
        value = rng.choice(
            (
                value + rng.randint(-8, 8),
                -value,
                rng.choice(INTERESTING),
                -rng.choice(INTERESTING),
                value ^ (1 << rng.randrange(8 * size)),
            )
        )
        changed[start : start + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(changed[:bytes_max])


def main() -> None:
    """Fuzz the target that the command line names, until libFuzzer has enough."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["laminar", "fuzz.targets"]):
        from fuzz.targets import target

        check = target(name).check
    how = {}
    if name == "arrow":
        from fuzz import guidance

        guidance.guide(atheris.instrument_func)
        how["custom_mutator"] = mutate
    atheris.Setup([sys.argv[0], *options], check, **how)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
