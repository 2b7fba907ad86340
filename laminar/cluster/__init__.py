"""The cluster: discovery through a key-value store that each node writes its own part of."""

from laminar.cluster.kv import SHUFFLE_ADDR_KEY, ClusterKv, KvEvent
from laminar.cluster.memory import InMemoryKv

__all__ = ["SHUFFLE_ADDR_KEY", "ClusterKv", "InMemoryKv", "KvEvent"]
