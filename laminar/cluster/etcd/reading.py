"""Reading all keys of the cluster as they are at one moment, page by page."""

from __future__ import annotations

from laminar.cluster.etcd.client import EtcdClient
from laminar.cluster.etcd.layout import Layout
from laminar.cluster.etcd.messages import OUT_OF_RANGE, Change, Json, Page, page, text
from laminar.cluster.etcd.statistics import EtcdCounters
from laminar.errors import KvRefusedError


async def read_all(
    client: EtcdClient, layout: Layout, page_keys: int, counters: EtcdCounters
) -> Page:
    """Return all keys as one page.

    Raises as :meth:`EtcdClient.call` does.
    """
    while True:
        try:
            found = await _read(client, layout, page_keys)
        except KvRefusedError as error:
            # Compacted between two pages: that moment is gone, take the next one.
            if error.code != OUT_OF_RANGE:
                raise
        else:
            counters.strange_keys += found.strange
            return found


async def _read(client: EtcdClient, layout: Layout, page_keys: int) -> Page:
    start, end = layout.everything
    request: Json = {"key": text(start), "range_end": text(end), "limit": str(page_keys)}
    changes: list[Change] = []
    strange = 0
    while True:
        found = page(await client.call("kv/range", request), layout)
        changes += found.changes
        strange += found.strange
        # The later pages' headers are newer than what the pages show.
        revision = int(request.setdefault("revision", str(found.revision)))
        if found.more is None:
            return Page(found.store, revision, tuple(changes), None, strange)
        request["key"] = text(found.more)
