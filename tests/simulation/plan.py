"""What a seed stands for: nodes, what they send, how they listen, and what goes wrong.

Everything is drawn before the simulation begins, so that a plan can be printed.
"""

import random
from dataclasses import dataclass
from typing import Literal, NamedTuple

from laminar.config import ShuffleConfig
from laminar.testing.faults import Faults

NAMES = ("a", "b", "c", "d")
CHANNELS = ("default", "red", "blue")
CALM_S = 3.0
"""From then on nothing new goes wrong."""

RECONNECT_S = 20.0
"""Longer than everything that goes wrong without a loss being meant."""

Fate = Literal["lossless", "restart_sender", "restart_receiver", "loss"]
Kind = Literal["rows", "cancelled", "barrier", "watermark"]
Shape = Literal["flows", "serial", "exchange"]


class Op(NamedTuple):
    """One thing that a sender does."""

    kind: Kind
    rows: int
    pad_bytes: int
    pause_s: float
    """Beforehand."""


@dataclass
class Flow:
    """What one node sends to another on one channel."""

    sender: str
    receiver: str
    channel: str
    ops: list[Op]
    dictionary: bool
    """Whether its batches have a dictionary column."""


class Trouble(NamedTuple):
    """Something that goes wrong at a certain time between, or on, certain hosts."""

    at_s: float
    kind: Literal["partition", "one_way_partition", "reset", "pause"]
    first: str
    second: str
    duration_s: float


@dataclass
class Plan:
    seed: int
    shape: Shape
    fate: Fate
    nodes: tuple[str, ...]
    flows: list[Flow]
    configs: dict[str, ShuffleConfig]
    faults: Faults
    troubles: list[Trouble]
    victim: str
    """The node that restarts, or whose peers lose it."""
    fate_at_s: float
    fate_lasts_s: float
    claimed: dict[str, tuple[str, ...]]
    """Channels that have an inbox of their own, by node."""
    slowness_s: dict[str, float]
    """How long consumers of a node rest now and then."""
    drains: dict[str, bool]
    """Whether they take what is there at once."""
    with_kv: bool


def plan_of(seed: int) -> Plan:
    """The plan that belongs to ``seed``."""
    rng = random.Random(f"plan {seed}")
    nodes = NAMES[: rng.choice([2, 2, 2, 3, 3, 4])]
    shape = rng.choice(("flows", "flows", "serial", "exchange"))
    fate: Fate = "lossless"
    if shape == "flows" and rng.random() < 0.35:
        fate = rng.choice(("restart_sender", "restart_receiver", "loss"))
    flows = _flows(rng, nodes, shape)
    pairs = sorted({(flow.sender, flow.receiver) for flow in flows})
    victim = rng.choice(pairs)[fate == "restart_receiver"]
    return Plan(
        seed=seed,
        shape=shape,
        fate=fate,
        nodes=nodes,
        flows=flows,
        configs=_configs(rng, nodes),
        faults=_faults(rng),
        troubles=_troubles(rng, pairs),
        victim=victim,
        fate_at_s=rng.uniform(0.02, 1.0),
        fate_lasts_s=rng.choice(
            (rng.uniform(0.0, 1.0), rng.uniform(RECONNECT_S - 2, RECONNECT_S + 6))
        ),
        claimed={
            name: tuple(channel for channel in CHANNELS if rng.random() < 0.3) for name in nodes
        },
        slowness_s={name: rng.choice((0.0, 0.0, 0.01, 0.1)) for name in nodes},
        drains={name: rng.random() < 0.3 for name in nodes},
        with_kv=rng.random() < 0.3,
    )


def _flows(rng: random.Random, nodes: tuple[str, ...], shape: Shape) -> list[Flow]:
    if shape == "exchange":
        return [Flow(name, "*", "x", _ops(rng, 10), rng.random() < 0.2) for name in nodes]
    channels = CHANNELS[: rng.randint(1, 3)]
    wanted = [
        (sender, receiver, channel)
        for sender in nodes
        for receiver in nodes
        for channel in channels
        if sender != receiver
    ]
    chosen = rng.sample(wanted, min(len(wanted), rng.randint(1, 5)))
    return [Flow(*names, _ops(rng, 12), rng.random() < 0.2) for names in sorted(chosen)]


def _ops(rng: random.Random, most: int) -> list[Op]:
    kinds: tuple[Kind, ...] = ("rows", "rows", "rows", "rows", "cancelled", "barrier", "watermark")
    hurry = rng.choice((0.0, 0.02, 0.2))
    return [
        Op(
            kind=rng.choice(kinds),
            rows=rng.choice((1, 1, 2, 5, 12)),
            pad_bytes=rng.choice((0, 0, 10, 100)),
            pause_s=rng.random() * hurry if rng.random() < 0.5 else 0.0,
        )
        for _ in range(rng.randint(2, most))
    ]


def _configs(rng: random.Random, nodes: tuple[str, ...]) -> dict[str, ShuffleConfig]:
    keys = (b"known to them all",) if rng.random() < 0.3 else ()
    return {name: _config(rng, keys) for name in nodes}


def _config(rng: random.Random, keys: tuple[bytes, ...]) -> ShuffleConfig:
    frame_bytes = rng.choice((400, 1000, 4000))
    return ShuffleConfig(
        keys=keys,
        window_bytes=rng.choice((300, 1200, 3000, 20_000)),
        control_frames_max=rng.choice((1, 2, 5, 100)),
        target_frame_bytes=frame_bytes,
        max_frame_bytes=64 * 1024,
        coalesce_bytes=rng.choice((1, frame_bytes)),
        dial_timeout_s=1.0,
        handshake_timeout_s=1.0,
        reconnect_timeout_s=RECONNECT_S,
        keepalive_interval_s=1.0,
        keepalive_timeout_s=2.0,
        backoff_initial_s=0.02,
        backoff_max_s=0.3,
        close_timeout_s=60.0,
    )


def _faults(rng: random.Random) -> Faults:
    def sometimes(chance: float, amount: float) -> float:
        return rng.random() * amount if rng.random() < chance else 0.0

    return Faults(
        delay_s=rng.choice((0.0, 0.001, 0.02)),
        jitter_s=rng.choice((0.0, 0.001, 0.1)),
        buffer_bytes=rng.choice((200, 1000, 65536)),
        segment_bytes=rng.choice((150, 700, 16384)),
        yields=rng.choice((0.0, 0.3)),
        refused=sometimes(0.3, 0.6),
        unanswered=sometimes(0.2, 0.5),
        reset=sometimes(0.5, 1.0),
        reset_bytes_max=rng.choice((300, 1500, 5000)),
        one_sided=rng.choice((0.0, 0.3, 1.0)),
        half_open=sometimes(0.15, 0.6),
        half_open_bytes_max=rng.choice((200, 2000)),
        byte_by_byte=sometimes(0.15, 1.0),
        byte_by_byte_bytes=48,
        slow_reader=sometimes(0.2, 1.0),
        slow_bytes_per_s=rng.choice((2000.0, 20_000.0)),
    )


def _troubles(rng: random.Random, pairs: list[tuple[str, str]]) -> list[Trouble]:
    kinds = ("partition", "one_way_partition", "reset", "reset", "pause")
    troubles = []
    for _ in range(rng.choice((0, 0, 1, 2, 4))):
        sender, receiver = rng.choice(pairs)
        if receiver == "*":
            receiver = rng.choice([name for name, _ in pairs if name != sender])
        ends = (sender, receiver) if rng.random() < 0.5 else (receiver, sender)
        troubles.append(
            Trouble(rng.uniform(0.0, 0.8), rng.choice(kinds), *ends, rng.uniform(0.02, 1.0))
        )
    return sorted(troubles)
