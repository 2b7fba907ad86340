"""``python -m fuzz.keep FOLDER``: take into the corpus what is worth keeping of a run's finds.

Kept is, smallest first, what goes somewhere that no input before it went: a pair of consecutive
lines of the code under test, or a complaint of pyarrow's. The corpus stays small enough to be
read and replayed with every test run.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from fuzz import guidance
from fuzz.seed import CORPUS
from fuzz.targets import NAMES, target

FILES_MAX = 64
BYTES_MAX = 2048
CODE = tuple(str(Path("laminar", package)) for package in ("shuffle", "cluster"))


class Footprint:
    """Where an input goes."""

    def __init__(self) -> None:
        self.places: set[tuple[object, ...]] = set()
        self._lines: dict[int, int] = {}

    def of(self, check: Callable[[bytes], None], data: bytes) -> set[tuple[object, ...]]:
        """Run ``check`` and see."""
        self.places, self._lines = set(), {}
        guidance.guide(lambda visit: lambda place: self.places.add(("said", place)))
        sys.settrace(self._trace)
        try:
            check(data)
        finally:
            sys.settrace(None)
        return self.places

    def _trace(self, frame: FrameType, event: str, arg: object) -> Callable[..., object] | None:
        if not any(package in frame.f_code.co_filename for package in CODE):
            return None
        before = self._lines.get(id(frame), 0)
        self.places.add((frame.f_code.co_filename, before, frame.f_lineno))
        self._lines[id(frame)] = frame.f_lineno
        return self._trace


def keep(name: str, folder: Path) -> int:
    """Add to the corpus of one target; how many files it has now."""
    check, kept, seen = target(name).check, CORPUS / name, set[tuple[object, ...]]()
    for path in sorted(kept.iterdir()):
        seen |= Footprint().of(check, path.read_bytes())
    room = FILES_MAX - len(list(kept.iterdir()))
    for path in sorted(folder.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
        data = path.read_bytes()
        places = Footprint().of(check, data)
        if room <= 0 or len(data) > BYTES_MAX:
            break
        if not places <= seen:
            seen |= places
            (kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            room -= 1
    return FILES_MAX - room


def main() -> None:
    """Keep what is new of every target that was run."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.keep", description=__doc__)
    parser.add_argument("work", type=Path, help="where `python -m fuzz` put its finds")
    work: Path = parser.parse_args().work
    for name in NAMES:
        if (work / name).is_dir():
            print(f"{name}: {keep(name, work / name / 'corpus')} files")


if __name__ == "__main__":
    main()
