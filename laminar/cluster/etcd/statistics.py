"""What one ``EtcdKv`` has counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EtcdStatistics:
    """A snapshot of one :class:`~laminar.cluster.etcd.EtcdKv`."""

    keys: int
    """Keys of the own slot."""
    watches: int
    """Watches that are open."""
    attempts_failed: int
    """Requests that a member of etcd did not answer, or could not carry out then."""
    renewals_failed: int
    """How often the lease could neither be renewed nor replaced in time."""
    leases_lost: int
    """How often the lease ended, so that all keys of the own slot were to be written again."""
    watch_restarts: int
    """How often a watch was interrupted and went on."""
    rereads: int
    """How often a watch read everything, the first time included."""
    strange_keys: int
    """Keys below the prefix that watches and scans passed over: no node writes such."""


@dataclass(slots=True)
class EtcdCounters:
    """The numbers while they grow."""

    attempts_failed: int = 0
    renewals_failed: int = 0
    leases_lost: int = 0
    watch_restarts: int = 0
    rereads: int = 0
    strange_keys: int = 0
