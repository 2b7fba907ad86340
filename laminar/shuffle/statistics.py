"""Snapshots of what the fabric has done. Everything that shows numbers reads only these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from laminar.model import CheckpointId, NodeId
from laminar.net.statistics import CertificateStatistics


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """A snapshot of one channel, sending or receiving."""

    frames: int
    """Frames queued for sending, or received, since the session began."""
    batches: int
    """Record batches handed in by ``send_to``, or handed out by ``recv``."""
    bytes: int
    """Bytes of DATA bodies queued for sending, or received."""
    window_used_bytes: int
    """Bytes of DATA bodies that count against the window now: queued and not yet consumed."""
    window_used_frames: int
    """Frames, those without data included, that are queued and not yet consumed. Batches that
    wait for company count as one."""
    credit_bytes: int
    """Bytes for which the window has room now."""


@dataclass(frozen=True, slots=True)
class OutboundChannelStatistics(ChannelStatistics):
    """A snapshot of one channel, sending."""

    blocked_s: float
    """How long senders have waited for room on this channel, in sum; those that wait now
    included, and each counted for itself."""


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """A snapshot of what was sent to one peer."""

    alive: bool
    silent_s: float | None
    """Seconds since anything was last heard on the connection; None without one. See
    :meth:`ShuffleSender.heard <laminar.shuffle.sender.ShuffleSender.heard>` for how exact."""
    connections: int
    """How many connections there have been: one, and one more per reconnect."""
    trouble: str
    """Why the last attempt to connect failed, or the last connection ended; empty if none did."""
    frames_sent: int
    """Frames of channels, those sent again after a reconnect included."""
    bytes_sent: int
    """Their bytes on the wire."""
    channels: Mapping[str, OutboundChannelStatistics]


@dataclass(frozen=True, slots=True)
class SenderStatistics:
    """A snapshot of a sender, by peer."""

    peers: Mapping[NodeId, LinkStatistics]
    certificates: CertificateStatistics | None = None
    """Of this node's certificate files; None without TLS."""


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """A snapshot of what was received from one peer."""

    alive: bool
    silent_s: float | None
    """Seconds since anything was last heard on the connection; None without one."""
    connections: int
    """How many connections there have been: one, and one more per reconnect."""
    duplicates: int
    """Frames that came again after a reconnect and were dropped."""
    channels: Mapping[str, ChannelStatistics]


@dataclass(frozen=True, slots=True)
class AlignmentStatistics:
    """A snapshot of the inputs of one operator and the checkpoints among them."""

    inputs: int
    """Inputs that have neither ended nor left."""
    aligning: CheckpointId | None
    """The checkpoint whose barrier some inputs have delivered and some have not."""
    missing: frozenset[NodeId]
    """The inputs that have not delivered it."""
    returned: frozenset[NodeId]
    """Those that were gone and send again: it waits until they are readmitted or dismissed."""
    held_messages: int
    """Messages that wait behind a barrier, or for the consumer right after one."""
    held_bytes: int
    """Bytes of their data, which count against the windows of their channels."""
    aligned: int
    """Checkpoints whose barrier has come out."""
    superseded: int
    """Checkpoints that were given up because an input went on to a newer one."""
    aborted: int
    """Checkpoints that the caller aborted."""
    longest_wait_s: float
    """Longest time from the first barrier of a checkpoint until nobody waited for it."""
    drops: Mapping[str, int]
    """Messages that were not let through, by reason: ``duplicate``, ``late`` and ``aborted``
    are barriers, ``departed`` and ``stranger`` whatever came from those who are no input."""


@dataclass(frozen=True, slots=True)
class ReceiverStatistics:
    """A snapshot of a receiver."""

    peers: Mapping[NodeId, PeerStatistics]
    drops: Mapping[str, int]
    """Connections that were refused or cut off, by reason."""
    accept_failures: int
    certificates: CertificateStatistics | None = None
    """Of this node's certificate files; None without TLS."""
