"""One connection, Arrow batches, two processes on loopback TCP: MiB per second.

Laminar's peers authenticate each other by a key, and in rows of their own by TLS, which
encrypts what they send.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.contest import Contest
from benchmarks.duo import duo
from benchmarks.settings import Settings
from benchmarks.workload import stream_bytes
from laminar.testing.certificates import Authority

MIB = 1 << 20
TLS = "Laminar, asyncio, TLS"
STREAM_MIB = {10_000: 1024, 1_000: 384}
"""How much a trial sends, by rows in a batch."""
WARM_SHARE = 16
BACKENDS = ("asyncio", "asyncio+uvloop", "trio")
TARGETS = {
    10_000: {"Arrow Flight DoPut": 4.0, "blocking sendall/recv_into": 0.9},
    1_000: {"Arrow Flight DoPut": 2.0},
}


def contests(settings: Settings) -> Iterator[Contest]:
    """One contest for each size of batch."""
    certificates = _certificates(settings)
    for rows, volume_mib in STREAM_MIB.items():
        size = stream_bytes(rows)
        count = volume_mib * MIB // size // (8 if settings.quick else 1)
        volume = {"rows": rows, "warm": count // WARM_SHARE, "count": count}

        def rate(seconds: float, total: float = count * size / MIB) -> float:
            return total / seconds

        logs = settings.logs
        group = [
            duo(f"Laminar, {b}", "laminar:stream", logs, rate, ours=True, backend=b, **volume)
            for b in BACKENDS
        ]
        group += [
            duo(
                TLS,
                "laminar:stream",
                logs,
                rate,
                backend="asyncio",
                certificates=str(certificates),
                **volume,
            ),
            duo("Arrow Flight DoPut", "flight:stream", logs, rate, **volume),
            duo("blocking sendall/recv_into", "sockets:stream", logs, rate, **volume),
            duo("pyzmq PUSH/PULL", "zeromq:stream", logs, rate, **volume),
        ]
        yield Contest(
            title=f"One connection, batches of {rows:,} rows ({size / 1000:.0f} KB)",
            unit="MiB/s",
            higher_is_better=True,
            groups=[group],
            targets={
                ("Laminar, asyncio", theirs): times for theirs, times in TARGETS[rows].items()
            },
            remark=(
                f"{count:,} batches of int64, two float64 and a string a trial, after a warm-up on "
                "the same connection. Receivers decode every batch and count its rows, except the "
                "blocking loop: it moves ready-made bytes into one buffer and does nothing else. "
                "Only Laminar authenticates its peer, by a shared key or by TLS 1.3, and only the "
                "row with TLS encrypts."
            ),
        )


def _certificates(settings: Settings) -> Path:
    folder = settings.scratch / "certificates"
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority(folder)
    for node in ("a", "b"):
        authority.certify(node)
    return folder
