"""``python -m fuzz.seed``: write every target's seeds into its corpus."""

from __future__ import annotations

from pathlib import Path

from fuzz.targets import NAMES, target

CORPUS = Path(__file__).with_name("corpus")


def main() -> None:
    """Write them; what the fuzzer found stays."""
    for name in NAMES:
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in target(name).seeds():
            (folder / file).write_bytes(data)


if __name__ == "__main__":
    main()
