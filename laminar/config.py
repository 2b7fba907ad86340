"""Every limit of the fabric, with its default and its unit, checked once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Literal

from laminar.errors import ConfigError

KIB = 1024
MIB = 1024 * KIB
CHANNELS_MAX = 1024
ABORTED_CHECKPOINTS_MAX = 1024
"""Most aborted checkpoints that an aligner remembers one by one before it sees a newer one."""

Compression = Literal["lz4", "zstd"]


@dataclass(frozen=True, slots=True)
class ShuffleConfig:
    """Settings of a sender or receiver. Both sides of a connection name the same ``cluster``.

    Raises :class:`~laminar.errors.ConfigError` when a value is out of range or two
    contradict each other.
    """

    cluster: str = "laminar"
    """Name of the cluster; a peer of another cluster is refused."""

    window_bytes: int = 8 * MIB
    """Most bytes of data per channel that are sent and not yet consumed.

    What a receiver holds for one channel of one peer never exceeds its own value, and what a
    sender holds never exceeds the smaller of the two. A single frame larger than the window
    travels alone.
    """

    control_frames_max: int = 16384
    """Most barriers, watermarks and ends per channel that are sent and not yet consumed."""

    target_frame_bytes: int = 1 * MIB
    """Batches larger than this are split by rows, smaller ones coalesced up to it."""

    max_frame_bytes: int = 64 * MIB
    """No data frame larger than this is sent, or allocated for when announced by a peer."""

    coalesce_bytes: int = 64 * KIB
    """Batches up to this size are joined while they wait for the connection to be free."""

    compression: Compression | None = None
    """Body compression of the Arrow batches that this side sends."""

    channels_max: int = 1024
    """Most channels that one peer may open; no more than 1024, so that a greeting names all."""

    validate_full: bool = False
    """Check every value of every batch received, not only its layout.

    pyarrow can be made to crash by a batch with forged offsets. Turn this on where peers are
    not trusted; it reads all data once more.
    """

    peers_max: int = 1024
    """Most peers that a receiver serves at once."""

    handshakes_max: int = 256
    """Most accepted connections that may be busy introducing themselves."""

    dial_timeout_s: float = 5.0
    """Longest time for one attempt to connect and shake hands."""

    handshake_timeout_s: float = 5.0
    """Longest time that an accepted connection may take to introduce itself."""

    reconnect_timeout_s: float = 30.0
    """Longest time without a connection before the peer counts as lost."""

    backoff_initial_s: float = 0.05
    """First pause between two attempts to connect; doubles, with jitter."""

    backoff_max_s: float = 2.0
    """Longest pause between two attempts to connect."""

    keepalive_interval_s: float = 3.0
    """How often each side looks whether anything arrived, and asks for a sign of life if not."""

    keepalive_timeout_s: float = 12.0
    """A connection silent for longer than this counts as broken, within two intervals more."""

    close_timeout_s: float = 10.0
    """Longest time that a graceful close waits for what is still on its way."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.cluster) <= 128:
            raise ConfigError(f"cluster has 1 to 128 characters, got {len(self.cluster)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_bytes", "_max", "_s")) and not value > 0:
                raise ConfigError(f"{field.name} must be greater than 0, got {value!r}")
        self._check_order("coalesce_bytes", "target_frame_bytes", "max_frame_bytes")
        self._check_order("backoff_initial_s", "backoff_max_s")
        self._check_order("keepalive_interval_s", "keepalive_timeout_s")
        if self.max_frame_bytes >= 2**31:
            raise ConfigError(f"max_frame_bytes must be below 2 GiB, got {self.max_frame_bytes}")
        if self.channels_max > CHANNELS_MAX:
            raise ConfigError(
                f"channels_max must be at most {CHANNELS_MAX}, got {self.channels_max}"
            )
        if self.compression not in (None, "lz4", "zstd"):
            raise ConfigError(f"compression is None, 'lz4' or 'zstd', got {self.compression!r}")

    def _check_order(self, *names: str) -> None:
        for smaller, larger in pairwise(names):
            if getattr(self, smaller) > getattr(self, larger):
                raise ConfigError(
                    f"{smaller} ({getattr(self, smaller)}) must not exceed "
                    f"{larger} ({getattr(self, larger)})"
                )
