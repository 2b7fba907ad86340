"""What one run of a target did, out of libFuzzer's log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERAGE = re.compile(r"^#\d+\s+(\w+)\s+cov: (\d+) ft: (\d+)")


@dataclass(slots=True)
class Record:
    """Counts of one target; its runs go on behind a crash and add up."""

    runs: int = 0
    """Inputs that were checked."""
    coverage_before: int = 0
    """Branches that the kept corpus reaches."""
    coverage: int = 0
    """Branches that were reached in the end."""
    seconds: float = 0.0
    crashes: int = 0

    @property
    def new_coverage(self) -> int:
        """Branches reached that the kept corpus does not."""
        return self.coverage - self.coverage_before

    def add(self, log: Iterable[str]) -> None:
        """Take in the log of one process."""
        for line in log:
            if executed := _EXECUTED.match(line):
                self.runs += int(executed[1])
            elif reached := _COVERAGE.match(line):
                if reached[1] == "INITED" and not self.coverage_before:
                    self.coverage_before = int(reached[2])
                self.coverage = max(self.coverage, int(reached[2]))
