"""What the command line decided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run of the benchmarks is to be done."""

    cache: Path
    """Where generated input is kept from one run to the next."""
    scratch: Path
    """Where outputs and logs go; everything in it may be deleted."""
    repeats: int
    quick: bool
    """Little data: to see that it all works, not to measure."""

    @property
    def logs(self) -> Path:
        """Where the children's output goes."""
        return self.scratch / "logs"
