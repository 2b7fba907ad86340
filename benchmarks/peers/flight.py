"""Arrow Flight DoPut: one stream between the C++ client and server.

gRPC's options (larger HTTP/2 frames, a larger write buffer, its "throughput" target) were tried
one by one and all together; none changed the rate by more than its spread, so all are left alone.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pyarrow.flight as flight

from benchmarks.child import Link
from benchmarks.workload import stream_batches


class CountingServer(flight.FlightServerBase):
    """Reads every put into record batches, counts their rows, and tells when it has enough."""

    def __init__(self, link: Link, warm_rows: int, rows: int) -> None:
        super().__init__("grpc+tcp://127.0.0.1:0")
        self._link = link
        self._warm_rows = warm_rows
        self._rows = rows
        self.done = threading.Event()

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Serve the one put: count up to the warm-up's rows, then up to the rest."""
        self._count(reader, self._warm_rows)
        self._link.report(warm=True)
        self._count(reader, self._rows)
        self._link.report(ended=time.monotonic())
        self.done.set()

    @staticmethod
    def _count(reader: Any, rows: int) -> None:
        seen = 0
        while seen < rows:
            seen += reader.read_chunk().data.num_rows


def stream_receiver(link: Link, *, rows: int, warm: int, count: int) -> None:
    """Serve one put of ``warm`` and then ``count`` batches."""
    with CountingServer(link, warm * rows, count * rows) as server:
        link.report(address=server.port)
        link.heard()


def stream_sender(link: Link, *, address: int, rows: int, warm: int, count: int) -> None:
    """Put ``warm`` and, when told, ``count`` batches."""
    batches = stream_batches(rows)
    with flight.FlightClient(f"grpc+tcp://127.0.0.1:{address}") as client:
        descriptor = flight.FlightDescriptor.for_path("orders")
        writer, _ = client.do_put(descriptor, batches[0].schema)
        for turn in range(warm):
            writer.write_batch(batches[turn % len(batches)])
        link.report(ready=True)
        link.heard()
        link.report(started=time.monotonic())
        for turn in range(count):
            writer.write_batch(batches[turn % len(batches)])
        writer.close()
        link.heard()
