"""A whole `laminar shuffle` run, as a function.

The job's process touches no row, and does not even load Arrow: it has a worker plan, hands out
splits, adds up what workers report, and publishes the output when every row is accounted for.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from laminar.errors import JobError, LaminarError, WorkerError
from laminar.repartition.crew import Crew, Member, hire
from laminar.repartition.plan import Plan, Split
from laminar.repartition.protocol import (
    Assignment,
    Failure,
    Finished,
    NoMoreWork,
    Planned,
    PlanRequest,
    Progress,
    Ready,
    Work,
    error_of,
)
from laminar.repartition.spec import JobSpec
from laminar.repartition.staging import Staging

OUTSTANDING_SPLITS: Final = 2
"""Splits a worker knows of: one to read, one to go on with when that is done."""

DEATH_NOTICE_S: Final = 1.0
"""When a worker reports that a peer is lost, so long is waited for the peer's own death."""


SILENCE_CHECK_S: Final = 1.0
SILENCE_SHOWN_S: Final = 5.0
"""Workers report several times a second. One that does not for so long is shown to be silent,"""

SILENCE_MAX_S: Final = 40.0
"""and one that does not for so long fails the job, even when it has no peers to miss it. They
give up after 30 s of trying to reach it, or after 42 s at least when they had."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a job is, as told to :data:`OnProgress`."""

    phase: str
    """``starting``, ``shuffling``, ``publishing``."""
    seconds: float
    rows_total: int | None
    bytes_total: int
    files: int
    workers: tuple[Progress | None, ...]
    """The last report of each worker."""
    pids: tuple[int, ...]
    """The process of each worker."""
    silent_s: tuple[float, ...]
    """For how long each worker has said nothing; 0 when that is no reason to worry."""

    @property
    def rows_read(self) -> int:
        """By all workers."""
        return sum(worker.rows_read for worker in self.workers if worker)

    @property
    def rows_written(self) -> int:
        """By all workers."""
        return sum(worker.rows_written for worker in self.workers if worker)

    @property
    def bytes_read(self) -> int:
        """Of the input files, by all workers."""
        return sum(worker.bytes_read for worker in self.workers if worker)


OnProgress = Callable[[Snapshot], None]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a finished job did."""

    rows: int
    seconds: float
    rows_per_second: float
    bytes_shuffled: int
    """Bytes of rows in memory that went through the exchange."""
    bytes_sent: int
    """What crossed sockets between workers for that, counted on the wire with all framing."""
    bytes_written: int
    workers: int
    partitions: int
    peak_rss_bytes: int
    """Of the largest worker."""
    output: str
    notes: tuple[str, ...]


async def run_job(spec: JobSpec, on_progress: OnProgress | None = None) -> Summary:
    """Repartition; returns when the output is published.

    Raises a :class:`~laminar.errors.LaminarError` with a message of one line when that is
    not possible; there is no output then, and no process left. The same after a cancellation.
    """
    started = time.perf_counter()
    run_id = secrets.token_hex(4)
    with Staging(spec.out, run_id, overwrite=spec.overwrite) as staging:
        try:
            async with hire(spec.workers, spec.memory_limit_bytes, run_id) as crew:
                run = _Run(spec, run_id, started, crew, on_progress)
                async with anyio.create_task_group() as watching:
                    watching.start_soon(run.watch_silence)
                    finished = await run.through(staging.folder)
                    watching.cancel_scope.cancel()
                await crew.dismiss()
        except BaseExceptionGroup as group:
            raise _explanation(group) from group
        run.show("publishing")
        notes = await anyio.to_thread.run_sync(staging.publish)
    return run.summary(finished, notes)


class _Run:
    """The state of a run while its crew works."""

    def __init__(
        self,
        spec: JobSpec,
        run_id: str,
        started: float,
        crew: Crew,
        on_progress: OnProgress | None,
    ) -> None:
        self._spec = spec
        self._run_id = run_id
        self._started = started
        self._crew = crew
        self._on_progress = on_progress
        self._plan: Plan | None = None
        self._queue: deque[Split] = deque()
        self._progress: list[Progress | None] = [None] * spec.workers
        self._phase = "starting"

    async def through(self, folder: Path) -> list[Finished]:
        """From the planning to the last worker's report."""
        self.show("starting")
        self._plan = plan = await self._prepare()
        self.show("shuffling")
        self._queue.extend(plan.splits)
        assignment = Assignment(self._spec, plan.layout, folder, self._run_id)
        for member in self._crew.members:
            await member.tell(assignment)
        for _ in range(OUTSTANDING_SPLITS):
            for member in self._crew.members:
                await self._give(member)
        finished: list[Finished] = []
        while len(finished) < self._spec.workers:
            member, message = await self._crew.news.receive()
            if isinstance(message, Failure):
                await self._fail(message, member)
            elif isinstance(message, Finished):
                finished.append(message)
            elif isinstance(message, Progress):
                self._progress[member.number] = message
                for _ in range(message.splits_done + OUTSTANDING_SPLITS - member.splits_given):
                    await self._give(member)
                self.show("shuffling")
        self._check_counts(plan, finished)
        return finished

    async def _give(self, member: Member) -> None:
        """The next split, or the word that there is none."""
        if self._queue:
            member.splits_given += 1
            await member.tell(Work(self._queue.popleft()))
        elif not member.told_all:
            member.told_all = True
            await member.tell(NoMoreWork())

    async def _prepare(self) -> Plan:
        """Let the first worker plan, while the others join it."""
        ready = 0
        plan: Plan | None = None
        while plan is None or ready < self._spec.workers:
            member, message = await self._crew.news.receive()
            if isinstance(message, Failure):
                await self._fail(message, member)
            elif isinstance(message, Planned):
                plan = message.plan
            elif isinstance(message, Ready):
                if not ready:
                    await member.tell(PlanRequest(self._spec))
                    await self._crew.admit_others(message.address)
                ready += 1
        return plan

    async def _fail(self, failure: Failure, member: Member) -> None:
        """Raise what a worker's failure means.

        One that lost a peer usually knows of the peer's death before this process does, and
        the death explains more: it is raised while this waits. So does what the peer says of
        its own failure, or a long silence.
        """
        if failure.kind == "peer":
            with anyio.move_on_after(DEATH_NOTICE_S):
                async for other, message in self._crew.news:
                    if isinstance(message, Failure) and message.kind != "peer":
                        raise error_of(message, other.name)
            for silent in self._crew.members:
                if _notable(silent.silent_s):
                    raise _silence(silent)
        raise error_of(failure, member.name)

    async def watch_silence(self) -> None:
        """Show workers that say nothing, and give up on one that does so for too long.

        Time is counted in checks: a job that is stopped itself does not blame its workers.
        Raises :class:`~laminar.errors.WorkerError` naming the worker.
        """
        while True:
            await anyio.sleep(SILENCE_CHECK_S)
            if self._phase != "shuffling":  # planning is one long silence
                continue
            for member in self._crew.members:
                member.silent_s += 0.0 if member.finished else SILENCE_CHECK_S
                if member.silent_s >= SILENCE_MAX_S:
                    raise _silence(member)
            if any(member.silent_s >= SILENCE_SHOWN_S for member in self._crew.members):
                self.show(self._phase)

    def _check_counts(self, plan: Plan, finished: Sequence[Finished]) -> None:
        """Every row once, or no output."""
        read = sum(report.rows_read for report in finished)
        written = sum(report.rows_written for report in finished)
        if written != read or (plan.rows is not None and read != plan.rows):
            raise JobError(
                f"the rows do not add up: {plan.rows or read:,} in the files, {read:,} read, "
                f"{written:,} written; nothing was published"
            )

    def show(self, phase: str) -> None:
        """Tell whoever watches."""
        self._phase = phase
        if self._on_progress is None:
            return
        plan = self._plan
        self._on_progress(
            Snapshot(
                phase=phase,
                seconds=time.perf_counter() - self._started,
                rows_total=plan.rows if plan else None,
                bytes_total=plan.size_bytes if plan else 0,
                files=plan.files if plan else 0,
                workers=tuple(self._progress),
                pids=tuple(member.process.pid for member in self._crew.members),
                silent_s=tuple(_notable(member.silent_s) for member in self._crew.members),
            )
        )

    def summary(self, finished: Sequence[Finished], notes: tuple[str, ...]) -> Summary:
        """The figures of a published job."""
        rows = sum(report.rows_written for report in finished)
        seconds = time.perf_counter() - self._started
        return Summary(
            rows=rows,
            seconds=seconds,
            rows_per_second=rows / seconds,
            bytes_shuffled=sum(report.bytes_held for report in finished),
            bytes_sent=sum(report.bytes_sent for report in finished),
            bytes_written=sum(report.bytes_written for report in finished),
            workers=self._spec.workers,
            partitions=self._spec.partitions,
            peak_rss_bytes=max(report.peak_rss_bytes for report in finished),
            output=str(self._spec.out),
            notes=(*(self._plan.notes if self._plan else ()), *notes),
        )


def _silence(member: Member) -> WorkerError:
    return WorkerError(
        f"{member.name} has said nothing for {member.silent_s:.0f} s: "
        "it is stopped, or this machine is far too busy"
    )


def _notable(silent_s: float) -> float:
    return silent_s if silent_s >= SILENCE_SHOWN_S else 0.0


def _explanation(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of this package in a group; the group itself when something else failed."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    if all(isinstance(leaf, LaminarError) for leaf in leaves):
        return min(leaves, key=lambda leaf: isinstance(leaf, WorkerError))
    return group
