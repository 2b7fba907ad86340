"""The worker processes of one job: started, spoken to, watched, and never left behind.

Workers are sessions of their own, so that a Ctrl-C in the terminal reaches only the job's
process; it decides, and leaving the crew's block kills whatever still runs. Should the job's
process itself be killed, workers notice the end of their standard input and exit.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import ByteReceiveStream, Process, TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

import laminar
from laminar.errors import WorkerError
from laminar.repartition.protocol import (
    Failure,
    Finished,
    FromWorker,
    Membership,
    ToWorker,
    decode,
    encode,
)

STDERR_LINES_KEPT: Final = 50
KEY_BYTES: Final = 32
LEAVE_TIMEOUT_S: Final = 2.0

FATAL: Final = "Fatal Python error"

LIKELY_CAUSES: Final[dict[int, str]] = {
    signal.SIGKILL: " (somebody killed it, or the machine ran out of memory)",
    signal.SIGABRT: " (most likely memory ran out: lower --memory-limit or --workers)",
}

ENVIRONMENT: Final = {
    # Of Arrow's allocators the one that takes fresh pages least often for this work.
    "ARROW_DEFAULT_MEMORY_POOL": "jemalloc",
    # numpy's linear algebra is not used, but starts a thread per core that spins for work.
    "OPENBLAS_NUM_THREADS": "1",
}


class Member:
    """One worker process."""

    def __init__(self, number: int, process: Process) -> None:
        self.number = number
        self.process = process
        self.finished = False
        self.failed = False
        self.splits_given = 0
        self.told_all = False
        self.silent_s = 0.0
        """For how long it has said nothing; only counted from its assignment to its end."""
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES_KEPT)

    @property
    def name(self) -> str:
        """How messages call this worker."""
        return f"worker {self.number} (pid {self.process.pid})"

    async def tell(self, *messages: ToWorker) -> None:
        """Send messages; raises :class:`~laminar.errors.WorkerError` when the worker is gone."""
        stdin = self.process.stdin
        if stdin is None:
            raise WorkerError(f"{self.name} has no standard input")
        try:
            await stdin.send(b"".join(encode(message) for message in messages))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            code = await self.process.wait()
            raise WorkerError(self.obituary(code)) from None

    def obituary(self, code: int) -> str:
        """What is known about the end of the process with this exit code."""
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            how += LIKELY_CAUSES.get(-code, "")
        else:
            how = f"exited with code {code}"
        said = [line.strip() for line in self._stderr if line.strip()]
        # A fatal error of the interpreter is followed by where it happened, which tells users less.
        last = next((line for line in said if line.startswith(FATAL)), said[-1] if said else "")
        return f"{self.name} {how}" + (f"; it last said: {last}" if last else "")

    async def listen(self, news: MemoryObjectSendStream[tuple[Member, FromWorker]]) -> None:
        """Pass on what the worker says until its process ends.

        Raises :class:`~laminar.errors.WorkerError` when that is before it has finished.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_stderr)
            async for line in _lines(self.process.stdout):
                message = decode(line)
                self.silent_s = 0.0
                if isinstance(message, Finished):
                    self.finished = True
                elif isinstance(message, Failure):
                    self.failed = True
                await news.send((self, message))  # type: ignore[arg-type]
            code = await self.process.wait()
        if not (self.finished or self.failed):
            raise WorkerError(self.obituary(code))

    async def _keep_stderr(self) -> None:
        async for line in _lines(self.process.stderr):
            self._stderr.append(line.decode(errors="replace").rstrip())


class Crew:
    """All workers of a job."""

    def __init__(
        self,
        members: list[Member],
        news: MemoryObjectReceiveStream[tuple[Member, FromWorker]],
        key: str,
    ) -> None:
        self.members = members
        self._key = key
        self.news = news
        """What workers say, as it comes: (who, what)."""

    async def admit_first(self) -> None:
        """Let the first worker in: it says where it is found."""
        await self.members[0].tell(Membership(self._key))

    async def admit_others(self, seed: str) -> None:
        """Let all others in, who find each other through the first one's address."""
        for member in self.members[1:]:
            await member.tell(Membership(self._key, (seed,)))

    async def dismiss(self) -> None:
        """Let finished workers go, and wait for the ends of their processes."""
        for member in self.members:
            if member.process.stdin is not None:
                await member.process.stdin.aclose()
        with anyio.move_on_after(LEAVE_TIMEOUT_S):
            for member in self.members:
                await member.process.wait()


@asynccontextmanager
async def hire(count: int, memory_limit_bytes: int, run_id: str) -> AsyncIterator[Crew]:
    """Start ``count`` workers that share a new key; leaving the block kills those that still run.

    The first one is admitted; the others are not yet, see :meth:`Crew.admit_others`.
    The death of a worker is raised in the block as :class:`~laminar.errors.WorkerError` (in
    an exception group).
    """
    members: list[Member] = []
    send, receive = anyio.create_memory_object_stream[tuple[Member, FromWorker]](0)
    try:
        for number in range(count):
            arguments = [str(number), str(count), str(memory_limit_bytes), run_id]
            members.append(Member(number, await _start(arguments)))
        # The group ends before the streams do: who listens must not find them closed.
        async with send, receive, anyio.create_task_group() as tasks:
            _listen_to(members, send, tasks)
            crew = Crew(members, receive, secrets.token_hex(KEY_BYTES))
            await crew.admit_first()
            yield crew
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await _kill(members)


def _listen_to(
    members: list[Member],
    send: MemoryObjectSendStream[tuple[Member, FromWorker]],
    tasks: TaskGroup,
) -> None:
    for member in members:
        tasks.start_soon(member.listen, send)


async def _start(arguments: list[str]) -> Process:
    command = [sys.executable, "-P", "-m", "laminar.repartition", *arguments]
    try:
        return await anyio.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise WorkerError(f"cannot start a worker process: {error.strerror}") from error


def environment() -> dict[str, str]:
    """The environment of workers: this very package, and libraries that do not get in the way."""
    package = str(Path(laminar.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    # File names are UTF-8 for Arrow, so they are for the rest of a worker, whatever the locale.
    return {**ENVIRONMENT, **os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1"}


async def _kill(members: list[Member]) -> None:
    for member in members:
        if member.process.returncode is None:
            try:  # not process.kill(): it may collect the exit code that asyncio waits for
                os.kill(member.process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it ended by itself just now
                continue
    for member in members:
        await member.process.wait()
        await member.process.aclose()


async def _lines(stream: ByteReceiveStream | None) -> AsyncIterator[bytes]:
    """Whole lines of a pipe; what follows the last newline is a line too."""
    if stream is None:
        return
    held = b""
    async for chunk in stream:
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield line
    if held:
        yield held
