"""The inside of a child process: ``python -m benchmarks.child MODULE:FUNCTION FD PARAMETERS``."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from benchmarks.process import PeerMissing


class Link:
    """How a child talks with the process that started it."""

    def __init__(self, reports: int) -> None:
        self._reports = reports

    def report(self, **message: Any) -> None:
        """Tell the parent something."""
        os.write(self._reports, json.dumps(message).encode() + b"\n")

    def heard(self) -> dict[str, Any] | None:
        """Wait for what the parent says next; None when it wants the child to end."""
        line = sys.stdin.readline()
        message: dict[str, Any] | None = json.loads(line) if line else None
        return message


def main() -> int:
    """Run the function that the command line names."""
    entry, reports, parameters = sys.argv[1:]
    module, function = entry.split(":")
    link = Link(int(reports))
    # A peer's own children must not hold the pipe open when this process is gone.
    os.set_inheritable(int(reports), False)
    try:
        run = getattr(importlib.import_module(f"benchmarks.peers.{module}"), function)
        run(link, **json.loads(parameters))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("benchmarks"):
            raise
        link.report(missing=f"the module {error.name} is not installed")
    except PeerMissing as error:
        link.report(missing=str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
