"""Where nodes that find each other in etcd say they are, read without being one of them."""

from __future__ import annotations

import random

from laminar.cluster.kv import SHUFFLE_ADDR_KEY
from laminar.config import EtcdConfig
from laminar.errors import ConfigError
from laminar.model import NodeId


async def published(config: EtcdConfig) -> dict[NodeId, str]:
    """The ``shuffle:addr`` of every node below the prefix, as it is. Writes nothing.

    Raises :class:`~laminar.errors.KvUnavailableError`, :class:`~laminar.errors.KvRefusedError`
    and :class:`~laminar.errors.ProtocolError` as :class:`~laminar.EtcdKv` does, and
    :class:`~laminar.errors.ConfigError` where the extra ``etcd`` is not installed.
    """
    try:
        from laminar.cluster.etcd.client import EtcdClient
        from laminar.cluster.etcd.layout import Layout
        from laminar.cluster.etcd.reading import read_all
        from laminar.cluster.etcd.statistics import EtcdCounters
    except ImportError as error:
        raise ConfigError(
            f"etcd is asked by the extra `etcd` (pip install 'laminar-fabric[etcd]'): {error}"
        ) from error
    counters = EtcdCounters()
    async with EtcdClient(config, None, random.Random(), counters) as client:
        found = await read_all(client, Layout(config.prefix), config.page_keys_max, counters)
    return {
        change.cell[0]: change.value
        for change in found.changes
        if change.cell[1] == SHUFFLE_ADDR_KEY and change.value is not None
    }
