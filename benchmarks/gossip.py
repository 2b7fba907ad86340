"""Laminar's gossip and serf: the same number of agents through the same ordeal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import count
from typing import Any

from benchmarks.contest import Contest, Contestant, Measure, Sample
from benchmarks.namespace import inside
from benchmarks.ordeal import Ordeal
from benchmarks.peers.fleet import STAGGER_SECONDS
from benchmarks.process import Child
from benchmarks.settings import Settings
from benchmarks.sightings import RECOVERED_SECONDS, UNDISTURBED_SECONDS
from benchmarks.stats import percentile

MIB = 1 << 20
SEED = 46
REPEATS_MAX = 3
"""A trial takes two minutes."""
IDLE_SECONDS, IDLE_SECONDS_QUICK = 30.0, 5.0
SETTLE_SECONDS, SETTLE_SECONDS_QUICK = 10.0, 2.0
TRIAL_SECONDS_MAX = 600.0
ORDEALS = (
    Ordeal(agents=10, seconds=60, kills=3, short_stops=(1, 2, 3), long_stops=(20,), changes=20),
    Ordeal(
        agents=50, seconds=60, kills=5, short_stops=(1, 2, 3) * 2, long_stops=(20,) * 2, changes=20
    ),
)
ORDEAL_QUICK = Ordeal(agents=5, seconds=30, kills=1, short_stops=(2,), long_stops=(20,), changes=6)
KILL_P50, KILL_P99 = (f"a SIGKILL is seen by a node, p{at}, s" for at in (50, 99))
KEY_P50, KEY_P99 = (f"a changed key is seen by all, p{at}, s" for at in (50, 99))
RETURN = "a return after a stop is seen by all, s"
CATCH_UP = "who returns has all that changed meanwhile, s"
FALSE = "false deaths"
IDLE, BUSY = (f"bytes a node and second, {phase}" for phase in ("idle", "busy"))
MEASURES = (
    *(Measure(note, target=1.0) for note in (KILL_P99, IDLE, BUSY, KEY_P50, KEY_P99, RETURN)),
    Measure(FALSE, count=True, target=1.0),
    Measure(CATCH_UP),
)
OURS, THEIRS = "Laminar", "serf"
METHOD = (
    "Every agent is a process, and all of a kind are alone on the loopback of a network namespace. "
    "They start {stagger:g} s apart, with the first one as seed; the two kinds take turns. Both "
    "seal what they send with AES-GCM and a shared key of 256 bits. All else is as it comes: "
    "Laminar's `GossipConfig()`, on uvloop where that is installed, and serf's profile `lan`. "
    "{settle:g} s after all see all there are {idle:g} idle seconds, and then the busy ones. What "
    "an agent sees is read from its output as it comes; of serf that is the log, which is about a "
    "second ahead of what its event handlers are told. A changed key is a tag in serf, changed by "
    "its configuration file and SIGHUP. Nothing but gossip takes the network, and bytes are all "
    "that it carried, IP and TCP headers included. An agent that is itself killed or stopped in "
    "the {undisturbed:g} s after a deed is no witness of it, nor one that went on less than "
    "{recovered:g} s before. A death is false if it is said of an "
    "agent that was neither killed nor in the middle of a long stop; ratios of such counts are of "
    "one more than each. The time in which agents waited for a processor says how much the machine "
    "had to do besides."
)


def contests(settings: Settings) -> Iterator[Contest]:
    """One for each number of agents."""
    settle = SETTLE_SECONDS_QUICK if settings.quick else SETTLE_SECONDS
    idle = IDLE_SECONDS_QUICK if settings.quick else IDLE_SECONDS
    method = METHOD.format(
        stagger=STAGGER_SECONDS,
        settle=settle,
        idle=idle,
        undisturbed=UNDISTURBED_SECONDS,
        recovered=RECOVERED_SECONDS,
    )
    for ordeal in [ORDEAL_QUICK] if settings.quick else ORDEALS:
        yield Contest(
            title=f"Gossip: {ordeal.agents} agents are killed, stopped and changed",
            unit=KILL_P50,
            higher_is_better=False,
            groups=[[_contestant(OURS, ordeal, settings), _contestant(THEIRS, ordeal, settings)]],
            targets={(OURS, THEIRS): 1.0},
            measures=MEASURES,
            remark=f"{_remark(ordeal)} {method}",
            repeats=min(settings.repeats, REPEATS_MAX),
            warm_ups=0,
        )


def _remark(ordeal: Ordeal) -> str:
    short, long = len(ordeal.short_stops), len(ordeal.long_stops)
    return (
        f"In {ordeal.seconds:g} seconds {ordeal.kills} of {ordeal.agents} agents are killed, "
        f"{short} stopped for 1 to 3 s, {long} stopped for {ordeal.long_stops[0]:g} s, and keys of "
        f"others changed {ordeal.changes} times, at random times that are the same for both in a "
        "turn."
    )


def _contestant(system: str, ordeal: Ordeal, settings: Settings) -> Contestant:
    # Each turn has a seed of its own, and both contestants of a turn have the same.
    seeds = count(SEED)
    return Contestant.afresh(
        system,
        lambda: _trial(system.lower(), ordeal, next(seeds), settings),
        ours=system == OURS,
    )


def _trial(system: str, ordeal: Ordeal, seed: int, settings: Settings) -> Sample:
    folder = settings.scratch / "gossip"
    folder.mkdir(parents=True, exist_ok=True)
    child = Child(
        "fleet:run",
        settings.logs,
        inside=inside(),
        system=system,
        folder=str(folder),
        agents=ordeal.agents,
        settle_seconds=SETTLE_SECONDS_QUICK if settings.quick else SETTLE_SECONDS,
        idle_seconds=IDLE_SECONDS_QUICK if settings.quick else IDLE_SECONDS,
        busy_seconds=ordeal.seconds,
        actions=[asdict(action) for action in ordeal.actions(seed)],
    )
    try:
        return to_sample(child.expect(TRIAL_SECONDS_MAX))
    finally:
        child.stop()


def to_sample(report: dict[str, Any]) -> Sample:
    """What a fleet reported, as figures by name."""
    idle, busy = report["phases"]
    return Sample(
        percentile(report["detections"], 50),
        {
            KILL_P99: percentile(report["detections"], 99),
            IDLE: idle["network_bytes"],
            BUSY: busy["network_bytes"],
            KEY_P50: percentile(report["convergences"], 50),
            KEY_P99: percentile(report["convergences"], 99),
            RETURN: max(report["rejoins"]),
            CATCH_UP: max(report["catch_ups"]),
            FALSE: report["false_deaths"],
            "never seen": report["missed"],
            **{
                f"{what} a processor, ms a node and second, {phase}": used[f"{key}_seconds"] * 1000
                for phase, used in (("idle", idle), ("busy", busy))
                for what, key in (("used", "cpu"), ("waited for", "waited"))
            },
            "resident, MiB a node": report["resident_bytes"] / MIB,
            "last one is up until all see all, s": report["join_seconds"],
        },
    )
