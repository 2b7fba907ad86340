"""Head-of-line blocking: one lane is stuck, and the others go on as if it were not there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contest import Contest, Contestant, Notes, Sample
from benchmarks.process import Child, ChildError
from benchmarks.settings import Settings
from benchmarks.workload import stream_bytes

MIB = 1 << 20
ROWS = 10_000
VOLUME_MIB = 1024
WARM = 32
STEP_TIMEOUT_SECONDS = 60.0
KERNEL_BYTES_MIN = 64 * 1024
WINDOW_MIB = {"peer": 64, "channel": 8}
"""More than the kernel takes, where its buffers are to be full; else the default."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """Who sends where: lanes are pairs of a receiver and a channel."""

    flowing: list[list[str]]
    stalled: list[str]
    stop_process: bool
    """Whether the receiver of the stalled lane is stopped as a process."""
    window_bytes: int

    @property
    def receivers(self) -> dict[str, list[str]]:
        """The channels of every receiver, the flowing ones first."""
        found: dict[str, list[str]] = {}
        for peer, channel in (*self.flowing, self.stalled):
            found.setdefault(peer, []).append(channel)
        return found


PEERS = Lanes(
    flowing=[[f"receiver-{number}", "default"] for number in (1, 2, 3)],
    stalled=["receiver-4", "default"],
    stop_process=True,
    window_bytes=WINDOW_MIB["peer"] * MIB,
)
CHANNELS = Lanes(
    flowing=[["receiver-1", "flowing"]],
    stalled=["receiver-1", "stalled"],
    stop_process=False,
    window_bytes=WINDOW_MIB["channel"] * MIB,
)


def contests(settings: Settings) -> Iterator[Contest]:
    """One for receivers, one for channels."""
    yield _contest(
        settings,
        PEERS,
        "Head-of-line: one of four receivers stops reading",
        ("Laminar, three flow and the fourth is stopped", "three flow and the fourth is idle"),
        0.95,
        "One process sends to three receivers, each a process. The fourth is there in both runs: "
        "idle, or stopped by SIGSTOP with its window full, the kernel's buffers at both ends full "
        "of what it does not read, the rest of its window stuck before them in the sender, and "
        "a send_to that waits for it.",
    )
    yield _contest(
        settings,
        CHANNELS,
        "Head-of-line: one of two channels to a receiver is not taken",
        ("Laminar, the other channel is stalled", "the other channel is idle"),
        0.9,
        "One process sends to one receiver on two channels. Nobody takes the rows of the stalled "
        "one: its window is full, and a send_to waits.",
    )


def _contest(
    settings: Settings,
    lanes: Lanes,
    title: str,
    names: tuple[str, str],
    target: float,
    remark: str,
) -> Contest:
    volume = VOLUME_MIB // (8 if settings.quick else 1)
    count = volume * MIB // stream_bytes(ROWS) // len(lanes.flowing)
    stalled, idle = names
    return Contest(
        title=title,
        unit="MiB/s",
        higher_is_better=True,
        groups=[
            [
                Contestant.afresh(
                    stalled, partial(_trial, settings.logs, lanes, count, fill=True), ours=True
                ),
                Contestant.afresh(idle, partial(_trial, settings.logs, lanes, count, fill=False)),
            ]
        ],
        targets={(stalled, idle): target},
        remark=f"{remark} The figure is of what flows.",
    )


def _trial(logs: Path, lanes: Lanes, count: int, *, fill: bool) -> Sample:
    volume: dict[str, Any] = {"rows": ROWS, "warm": WARM, "window_bytes": lanes.window_bytes}
    with ExitStack() as stack:

        def start(entry: str, **parameters: Any) -> Child:
            child = Child(f"laminar_stalled:{entry}", logs, **parameters, **volume)
            stack.callback(child.stop)
            return child

        receivers = {
            peer: start(
                "receiver",
                me=peer,
                count=count if peer in _flowing(lanes) else 0,
                channels=channels,
            )
            for peer, channels in lanes.receivers.items()
        }
        addresses = {
            peer: receiver.expect(STEP_TIMEOUT_SECONDS)["address"]
            for peer, receiver in receivers.items()
        }
        sender = start(
            "sender",
            addresses=addresses,
            count=count,
            flowing=lanes.flowing,
            stalled=lanes.stalled,
            fill=fill,
        )
        for child in (sender, *receivers.values()):
            child.expect(STEP_TIMEOUT_SECONDS)
        notes: Notes = {}
        if fill:
            if lanes.stop_process:
                stack.enter_context(_stopped(receivers[lanes.stalled[0]]))
            sender.say(fill=True)
            notes = _stuck(sender.expect(STEP_TIMEOUT_SECONDS), lanes)
        sender.say(go=True)
        started = sender.expect(STEP_TIMEOUT_SECONDS)["started"]
        ended = max(
            receivers[peer].expect(STEP_TIMEOUT_SECONDS)["ended"] for peer in _flowing(lanes)
        )
    return Sample(count * len(lanes.flowing) * stream_bytes(ROWS) / MIB / (ended - started), notes)


def _flowing(lanes: Lanes) -> set[str]:
    return {peer for peer, _ in lanes.flowing}


@contextmanager
def _stopped(child: Child) -> Iterator[None]:
    """The process does nothing at all, not even read what its kernel holds for it."""
    os.kill(child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGCONT)


def _stuck(told: dict[str, Any], lanes: Lanes) -> Notes:
    """What is stuck where. Raises :class:`ChildError` when the lane is not truly full."""
    window, kernel = told["window_used"], told["in_kernel"]
    if window < lanes.window_bytes / 2:
        raise ChildError(f"only {window:,} of {lanes.window_bytes:,} bytes of the window are used")
    if lanes.stop_process and not KERNEL_BYTES_MIN <= kernel < window:
        raise ChildError(f"the kernel holds {kernel:,} of {window:,} bytes: it is not full")
    return {"window, MiB": window / MIB, "in the kernel, MiB": kernel / MIB}
