"""One watch on etcd, kept going over lost connections, compaction and lost stores."""

from __future__ import annotations

from laminar.cluster.etcd.client import EtcdClient
from laminar.cluster.etcd.layout import Layout
from laminar.cluster.etcd.messages import Change, Json, news, text
from laminar.cluster.etcd.reading import read_all
from laminar.cluster.etcd.statistics import EtcdCounters
from laminar.cluster.etcd.view import EtcdView
from laminar.cluster.watcher import Watcher
from laminar.config import EtcdConfig
from laminar.errors import KvRefusedError, KvUnavailableError, ProtocolError


class EtcdFollower:
    """Tells ``watcher`` everything; the watcher picks what it wants."""

    def __init__(
        self,
        watcher: Watcher,
        client: EtcdClient,
        layout: Layout,
        config: EtcdConfig,
        counters: EtcdCounters,
    ) -> None:
        self._view = EtcdView(watcher.changed)
        self._client = client
        self._layout = layout
        self._config = config
        self._counters = counters
        self._fruitless = 0
        """Attempts in a row that told nothing."""

    def own(self, store: int, change: Change) -> None:
        """Tell what this node itself changed."""
        self._view.own(store, change)

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            try:
                await self._follow()
            except KvUnavailableError:
                pass  # counted by the client; the watch goes on from where it was
            except (KvRefusedError, ProtocolError):
                # Whatever it was, only what is read anew can be trusted.
                self._view.lose()
            self._counters.watch_restarts += 1
            await self._client.pause(self._fruitless)
            self._fruitless += 1

    async def _follow(self) -> None:
        """Follow until etcd ends the watch, or says nothing for long."""
        if self._view.revision is None:
            self._view.begin()
            found = await read_all(
                self._client, self._layout, self._config.page_keys_max, self._counters
            )
            self._view.read(found.store, found.revision, found.changes)
            self._counters.rereads += 1
            revision = found.revision
        else:
            revision = self._view.revision
        async with self._client.stream(
            "watch", self._request(revision + 1), self._config.watch_idle_s
        ) as messages:
            async for message in messages:
                self._fruitless = 0
                told = news(message, self._layout)
                self._counters.strange_keys += told.strange
                self._view.watched(told)
                if self._view.revision is None:
                    return

    def _request(self, revision: int) -> Json:
        start, end = self._layout.everything
        return {
            "create_request": {
                "key": text(start),
                "range_end": text(end),
                "start_revision": str(revision),
                # Quiet watches stay ahead of compaction, and no message grows beyond bounds.
                "progress_notify": True,
                "fragment": True,
            }
        }
