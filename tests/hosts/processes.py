"""Nodes that are processes, and what they have said so far."""

import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import laminar

LIMIT_S = 30
"""How long anything may take before a test fails."""

_T = TypeVar("_T")

SOURCES = str(Path(laminar.__file__).parent.parent)


class NodeProcess:
    """A process that runs ``script`` with ``settings``; killed at the end of the block.

    A thread reads what it prints. To wait is to wait for something of that, and fails after
    ``LIMIT_S`` or when the process has ended.
    """

    def __init__(self, script: Path, settings: dict, inside: Sequence[str] = ()) -> None:
        self.name = settings["node"]
        self.events: list[dict] = []
        self.members: dict[str, str] = {}
        """The newest state of each."""
        self.rows: dict[tuple[str, int], list[int]] = defaultdict(list)
        """The numbers of the rows that arrived, by peer and its life."""
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            [*inside, sys.executable, "-W", "error", str(script), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.kill()

    # -- what a test does to it ----------------------------------------------------------------

    def kill(self) -> None:
        """As a crash would, or the kernel when memory is short."""
        self._process.kill()
        self._end()

    def stop(self) -> None:
        """Let it send no more, and tell when all of it has arrived."""
        self._process.stdin.write("stop\n")
        self._process.stdin.flush()

    def leave(self) -> int:
        """Let it go in peace; its exit code."""
        self._process.stdin.close()
        self._process.wait(LIMIT_S)
        self._end()
        return self._process.returncode

    def _end(self) -> None:
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        if not self._process.stdin.closed:
            self._process.stdin.close()

    # -- what it said --------------------------------------------------------------------------

    def told(self, event: str, **fields) -> list[dict]:
        """The events of that kind so far that have these fields."""
        wanted = {"event": event, **fields}.items()
        return [each for each in list(self.events) if wanted <= each.items()]

    def wait_told(self, event: str, **fields) -> dict:
        """Wait for the first such event."""
        return self._wait(f"{event} {fields}", lambda: self.told(event, **fields))[0]

    def wait_members(self, **states: str) -> None:
        """Wait until these members are in these states."""
        self._wait(f"members {states}", lambda: states.items() <= self.members.items())

    def last_round(self) -> int:
        """Of its gossip, as far as it said."""
        return self.told("round")[-1]["number"]

    def wait_round(self, number: int) -> None:
        """Wait until its gossip is so far."""
        self._wait(f"round {number}", lambda: self.last_round() >= number)

    def rows_of(self, peer: str) -> list[list[int]]:
        """The numbers of the rows of ``peer`` in the order they came, of each of its lives."""
        return [numbers for (of, _), numbers in list(self.rows.items()) if of == peer]

    def count_rows(self, peer: str) -> int:
        """How many rows have come of all lives of ``peer``."""
        return sum(map(len, self.rows_of(peer)))

    def wait_rows(self, peer: str, count: int) -> None:
        """Wait until so many have come."""
        self._wait(f"{count} rows of {peer}", lambda: self.count_rows(peer) >= count)

    def _wait(self, what: str, condition: Callable[[], _T]) -> _T:
        """Wait until ``condition`` holds, and return its value; it is looked at on any news."""
        with self._news:
            self._news.wait_for(lambda: condition() or self._ended, LIMIT_S)
        value = condition()
        if not value:
            raise AssertionError(f"{self.name} did not see: {what}\n{self._report()}")
        return value

    def _read(self) -> None:
        for line in self._process.stdout:
            event = json.loads(line)
            with self._news:
                self._take(event)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _take(self, event: dict) -> None:
        if event["event"] == "row":
            self.rows[event["peer"], event["life"]].append(event["number"])
            return
        self.events.append(event)
        if event["event"] == "member":
            self.members[event["node"]] = event["state"]

    def _report(self) -> str:
        last = "\n".join(map(str, self.events[-20:]))
        rows = {f"{peer} {life}": len(n) for (peer, life), n in list(self.rows.items())}
        return f"exit code {self._process.poll()}; rows: {rows}; last events:\n{last}"
