"""Snapshots of what the network has done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CertificateStatistics:
    """A snapshot of how a node's certificate files are."""

    reloads: int
    """How many times they changed and were read again."""
    failures: int
    """How many times they changed and could not be used; the ones before stay in force."""
    last_failure: str | None
    """Why the present files cannot be used, if they cannot."""
