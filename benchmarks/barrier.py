"""From ``fan_out_barrier`` to aligned: eight peers send barriers to eight operators.

The eight peers share one process and the eight operators another: sixteen processes would
measure how two cores are shared out. There is no peer to compare with: what other shuffles of
Python have in place of barriers is the end of the stage.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contest import Contest, Contestant, Sample
from benchmarks.process import Child
from benchmarks.settings import Settings
from benchmarks.stats import percentile

NODES = 8
WINDOW_MIB = 1
CHECKPOINTS = {False: 500, True: 100}
CHECKPOINTS_QUICK = 10
WARM_CHECKPOINTS = 5
STEP_TIMEOUT_SECONDS = 60.0
TOLD = {False: "idle", True: "every data window full"}


def contests(settings: Settings) -> Iterator[Contest]:
    """The one contest: idle and loaded, one after the other."""
    yield Contest(
        title=f"Barrier latency over {NODES} peers",
        unit="ms, p50",
        higher_is_better=False,
        groups=[
            [
                Contestant.afresh(
                    f"Laminar, {told}",
                    partial(
                        _trial,
                        settings.logs,
                        CHECKPOINTS_QUICK if settings.quick else CHECKPOINTS[full],
                        full=full,
                    ),
                    ours=True,
                )
            ]
            for full, told in TOLD.items()
        ],
        remark=(
            f"{NODES} peers in one process call fan_out_barrier at once, each to {NODES} operators "
            "in another process; the time is from the first call until the last operator has the "
            f"aligned barrier out of its Exchange, over {CHECKPOINTS[False]} checkpoints a trial "
            f"({CHECKPOINTS[True]} under load). Full: each of the {NODES * NODES} channels has its "
            f"window of {WINDOW_MIB} MiB of unconsumed rows before the call, all of which come out "
            "before the barrier, and more rows behind it. Barriers travel in-band: this is the "
            "time to take what is in the windows, and the windows bound it."
        ),
    )


def _trial(logs: Path, checkpoints: int, *, full: bool) -> Sample:
    shared: dict[str, Any] = {
        "peers": [f"peer-{number}" for number in range(NODES)],
        "backend": "asyncio",
        "window_bytes": WINDOW_MIB << 20,
    }
    with ExitStack() as stack:
        operators = Child("laminar:barrier_operators", logs, operators=NODES, **shared)
        stack.callback(operators.stop)
        addresses = operators.expect(STEP_TIMEOUT_SECONDS)
        peers = Child("laminar:barrier_peers", logs, addresses=addresses, full=full, **shared)
        stack.callback(peers.stop)
        taken = [
            _checkpoint(operators, peers, number)
            for number in range(WARM_CHECKPOINTS + checkpoints)
        ]
    milliseconds = [1000 * seconds for seconds in taken[WARM_CHECKPOINTS:]]
    return Sample(statistics.median(milliseconds), {"ms, p99": percentile(milliseconds, 99)})


def _checkpoint(operators: Child, peers: Child, number: int) -> float:
    """Seconds from the first fan-out to the last aligned barrier."""
    peers.say(checkpoint=number)
    peers.expect(STEP_TIMEOUT_SECONDS)
    operators.say(go=True)
    peers.say(go=True)
    started: float = peers.expect(STEP_TIMEOUT_SECONDS)["started"]
    aligned: float = operators.expect(STEP_TIMEOUT_SECONDS)["aligned"]
    return aligned - started
