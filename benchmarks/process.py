"""Child processes: started, talked to, waited for with a deadline, and ended with their own.

A child runs one function of :mod:`benchmarks.peers` in a fresh interpreter. It reports JSON
lines over a pipe of its own and is told things over its standard input; what it prints goes to
a log file that is shown when it fails.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

LOG_LINES_SHOWN = 15
STOP_GRACE_SECONDS = 10.0
REAP_SECONDS = 5.0


class ChildError(Exception):
    """A child died, said something unexpected, or took too long; holds the end of its log."""


class PeerMissing(Exception):
    """A contestant cannot run on this machine; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ran to its end: what it printed and how it went."""

    stdout: str
    seconds: float
    peak_rss_bytes: int
    """The largest resident set that any single process of it was seen to have, from outside."""


class Child:
    """One running function of :mod:`benchmarks.peers`; end it with :meth:`stop`."""

    def __init__(
        self, entry: str, logs: Path, /, *, inside: Sequence[str] = (), **parameters: Any
    ) -> None:
        """Start ``entry`` ("module:function" below benchmarks.peers) with JSON parameters.

        ``inside`` is a command that runs the command which follows it.
        """
        logs.mkdir(parents=True, exist_ok=True)
        self.entry = entry
        self._log = logs / f"{entry.replace(':', '-')}-{time.monotonic_ns()}.log"
        self._reports, write_end = os.pipe()
        self._buffer = b""
        command = [*inside, sys.executable, "-m", "benchmarks.child", entry, str(write_end)]
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [*command, json.dumps(parameters)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[write_end],
                    start_new_session=True,
                    env=child_environment(),
                )
        finally:
            os.close(write_end)

    @property
    def pid(self) -> int:
        """The process id of the child."""
        return self._process.pid

    def say(self, **message: Any) -> None:
        """Tell the child something. Raises :class:`ChildError` when it is gone."""
        stdin = self._process.stdin
        try:
            stdin.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]
            stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError as error:
            raise self._failure("is gone") from error

    def expect(self, timeout_seconds: float) -> dict[str, Any]:
        """Wait for the child's next report. Raises :class:`ChildError` and :class:`PeerMissing`."""
        deadline = time.monotonic() + timeout_seconds
        while b"\n" not in self._buffer:
            ready, _, _ = select.select(
                [self._reports], [], [], max(0, deadline - time.monotonic())
            )
            if not ready:
                raise self._failure(f"said nothing for {timeout_seconds:.0f} s")
            piece = os.read(self._reports, 65536)
            if not piece:
                raise self._failure("ended early")
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\n", 1)
        report: dict[str, Any] = json.loads(line)
        if "missing" in report:
            raise PeerMissing(report["missing"])
        return report

    def wait(self, timeout_seconds: float) -> float:
        """Wait until the child has ended by itself; the monotonic time of that, in seconds."""
        try:
            code = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise self._failure(f"did not end within {timeout_seconds:.0f} s") from error
        ended = time.monotonic()
        if code != 0:
            raise self._failure(f"ended with exit code {code}")
        return ended

    def stop(self) -> None:
        """Let the child end by itself (its input is closed), then end whatever it left."""
        family = descendants(self._process.pid)
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_GRACE_SECONDS)
        end_all(family)
        self._process.wait(REAP_SECONDS)
        os.close(self._reports)

    def _failure(self, what: str) -> ChildError:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return ChildError("\n    ".join([f"{self.entry} {what}", *lines]))


def child_environment() -> dict[str, str]:
    """The environment of every child: ours, plus what keeps the peers quiet and at home."""
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **quiet}


def run_command(
    command: list[str],
    *,
    timeout_seconds: float,
    sample_seconds: float | None = None,
    check: Callable[[int], bool] = lambda code: code == 0,
) -> Finished:
    """Run a command to its end; watch its processes' memory when ``sample_seconds`` is given.

    Raises :class:`ChildError` when ``check`` refuses the exit code or the time is over.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=child_environment(),
    )
    peak = 0
    while True:
        try:
            left = started + timeout_seconds - time.monotonic()
            out, err = process.communicate(timeout=max(0.0, min(left, sample_seconds or left)))
            break
        except subprocess.TimeoutExpired:
            family = descendants(process.pid)
            peak = max(peak, *(peak_rss_bytes(member.pid) for member in family), 0)
            if time.monotonic() - started >= timeout_seconds:
                end_all(family)
                process.wait(REAP_SECONDS)
                raise ChildError(f"{command[0]} took over {timeout_seconds:.0f} s") from None
    seconds = time.monotonic() - started
    if not check(process.returncode):
        tail = err.decode(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        raise ChildError(
            "\n    ".join([f"{' '.join(command)} ended with exit code {process.returncode}", *tail])
        )
    return Finished(out.decode(), seconds, peak)


def peak_rss_bytes(pid: int) -> int:
    """The kernel's own high-water mark of a process's resident set; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def descendants(pid: int) -> list[psutil.Process]:
    """The process and all that it started, as far as they still live."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end_all(family: list[psutil.Process]) -> None:
    """Ask these processes to end, then make them; psutil guards against reused ids."""
    for request in (signal.SIGTERM, signal.SIGKILL):
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(request)
        _, family = psutil.wait_procs(family, REAP_SECONDS)


def laminar_command() -> list[str]:
    """The installed ``laminar``. Raises :class:`PeerMissing` when there is none."""
    beside = Path(sysconfig.get_path("scripts")) / "laminar"
    found = str(beside) if beside.exists() else shutil.which("laminar")
    if found is None:
        raise PeerMissing("the command laminar is not installed")
    return [found]
