"""What the job's process and its workers tell each other: one JSON object a line.

::

    job     → worker   Membership, to the others once the first is Ready; PlanRequest, to the
                       first; Assignment, to all; Work, again and again; NoMoreWork
    worker  → job      Ready; Planned; Progress, now and then; Failure or Finished, once

The job's process only ever handles names and numbers: planning, too, is a worker's task.

The end of a worker's standard input means that the job's process is gone: the worker exits.
(Light to import, like all that the job's process needs.)
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from laminar.errors import (
    ConfigError,
    InputError,
    LaminarError,
    OutputError,
    RemoteError,
    UnknownPeerError,
    UnsupportedKeyError,
    WorkerError,
)
from laminar.repartition.plan import Layout, Plan, Split
from laminar.repartition.spec import JobSpec

OUT_OF_MEMORY: Final = "memory ran out (give it more, or lower --memory-limit or --workers)"

FailureKind: TypeAlias = Literal["input", "output", "key", "config", "peer", "other"]


@dataclass(frozen=True, slots=True)
class Membership:
    """The first message: what the workers of this run, and no others, know."""

    key: str = dataclasses.field(repr=False)
    """Proves the workers to each other; hexadecimal. On no command line, and in no environment."""
    seeds: tuple[str, ...] = ()
    """Where other workers listen already: none for the first, the first for all others."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """Find and inspect the inputs, and divide the work."""

    spec: JobSpec


@dataclass(frozen=True, slots=True)
class Planned:
    """The answer to :class:`PlanRequest`."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Assignment:
    """All a worker needs to know before the first row."""

    spec: JobSpec
    layout: Layout
    folder: Path
    run_id: str


@dataclass(frozen=True, slots=True)
class Work:
    """Read this split."""

    split: Split


@dataclass(frozen=True, slots=True)
class NoMoreWork:
    """All splits are given out: finish."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker listens at this address."""

    address: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Totals of one worker so far. Rows and bytes are of the input unless named otherwise."""

    state: str
    splits_done: int
    rows_read: int
    bytes_read: int
    """Of the input files, as they are on disk."""
    bytes_held: int
    """Of rows in memory, as read."""
    rows_written: int
    bytes_sent: int
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """The worker cannot go on."""

    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """All partitions of this worker are written and on disk."""

    rows_read: int
    rows_written: int
    bytes_held: int
    bytes_sent: int
    bytes_written: int
    peak_rss_bytes: int


ToWorker: TypeAlias = Membership | PlanRequest | Assignment | Work | NoMoreWork
FromWorker: TypeAlias = Ready | Planned | Progress | Failure | Finished
AnyMessage: TypeAlias = ToWorker | FromWorker

_KINDS: Final[dict[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        Membership,
        PlanRequest,
        Assignment,
        Work,
        NoMoreWork,
        Ready,
        Planned,
        Progress,
        Failure,
        Finished,
    )
}

_FAILURES: Final[list[tuple[type[LaminarError], FailureKind]]] = [
    (InputError, "input"),
    (OutputError, "output"),
    (UnsupportedKeyError, "key"),
    (ConfigError, "config"),
    (RemoteError, "peer"),
]


def encode(message: AnyMessage) -> bytes:
    """One line, newline included."""
    body = {"is": type(message).__name__, **dataclasses.asdict(message)}
    return json.dumps(body, separators=(",", ":"), default=_portable).encode() + b"\n"


def _portable(path: Path) -> str:
    """A path for a process whose file names are UTF-8, as those of workers are."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def decode(line: bytes) -> AnyMessage:
    """The message of a line. Raises :class:`~laminar.errors.WorkerError` when it is none."""
    try:
        body = json.loads(line)
        message: AnyMessage = _KINDS[body.pop("is")](**_restored(body))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkerError(f"not a message of this protocol: {line[:80]!r}") from error
    return message


def _restored(body: dict[str, Any]) -> dict[str, Any]:
    """What JSON has no types for, back from lists, objects and text."""
    restored: dict[str, Any] = {}
    for key, value in body.items():
        if key in _PARTS:
            restored[key] = _PARTS[key](**_restored(value))
        elif key == "splits":
            restored[key] = tuple(Split(**_restored(split)) for split in value)
        elif key == "constants":
            restored[key] = tuple((name, constant) for name, constant in value)
        elif key in ("out", "folder"):
            restored[key] = Path(value)
        else:
            restored[key] = tuple(value) if isinstance(value, list) else value
    return restored


_PARTS: Final[dict[str, type[Any]]] = {
    "spec": JobSpec,
    "layout": Layout,
    "plan": Plan,
    "split": Split,
}


def failure_of(error: LaminarError | MemoryError) -> Failure:
    """An error as it is told to the job's process."""
    if isinstance(error, MemoryError):
        return Failure("other", f"{OUT_OF_MEMORY}: {str(error) or 'it got none'}")
    if isinstance(error, UnknownPeerError):
        return Failure("peer", str(error))  # all were there when the work began: it has left
    for kind, name in _FAILURES:
        if isinstance(error, kind):
            return Failure(name, str(error))
    return Failure("other", f"{type(error).__name__}: {error}")


def error_of(failure: Failure, worker: str) -> LaminarError:
    """The error that a worker's failure means for the job."""
    for kind, name in _FAILURES:
        if name == failure.kind and not issubclass(kind, RemoteError):
            return kind(failure.message)
    return WorkerError(f"{worker} failed: {failure.message}")
