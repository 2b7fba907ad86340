"""32-byte messages, two processes on loopback TCP: thousand messages per second."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.contest import Contest
from benchmarks.duo import duo
from benchmarks.settings import Settings

MESSAGES = 1_000_000
ASYNCIO_MESSAGES = 100_000
WARM_SHARE = 10
BLOCKING, ASYNCIO = "pyzmq PUSH/PULL, blocking", "pyzmq PUSH/PULL, asyncio"
VARIANTS = {"message": "a message each", "batch": "a record batch each"}
BACKENDS = ("asyncio", "asyncio+uvloop", "trio")


def contests(settings: Settings) -> Iterator[Contest]:
    """The one contest."""
    divisor = 10 if settings.quick else 1

    def volume(messages: int) -> dict[str, int]:
        return {"warm": messages // divisor // WARM_SHARE, "count": messages // divisor}

    def rate(messages: int):  # type: ignore[no-untyped-def]
        return lambda seconds: messages / divisor / seconds / 1000

    logs = settings.logs
    group = [
        duo(
            f"Laminar, {told}, {backend}",
            f"laminar:small_{variant}",
            logs,
            rate(MESSAGES),
            ours=True,
            backend=backend,
            **volume(MESSAGES),
        )
        for variant, told in VARIANTS.items()
        for backend in BACKENDS
    ]
    group += [
        duo(BLOCKING, "zeromq:small", logs, rate(MESSAGES), **volume(MESSAGES)),
        duo(
            ASYNCIO,
            "zeromq:small_asyncio",
            logs,
            rate(ASYNCIO_MESSAGES),
            **volume(ASYNCIO_MESSAGES),
        ),
    ]
    yield Contest(
        title="32-byte messages",
        unit="k messages/s",
        higher_is_better=True,
        groups=[group],
        targets={
            (f"Laminar, {VARIANTS['batch']}, asyncio", theirs): times
            for theirs, times in ((BLOCKING, 1.0), (ASYNCIO, 10.0))
        },
        remark=(
            "pyzmq sends 32 bytes with copy=True and queues of 100,000 messages. Laminar sends "
            "either a Watermark each, in a frame of its own, or a record batch of four int64 "
            "each, which are joined on the way; the receiver counts rows."
        ),
    )
