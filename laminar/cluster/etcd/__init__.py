"""A ``ClusterKv`` on etcd 3.4 or newer. Needs the extra ``etcd``."""

from laminar.cluster.etcd.kv import EtcdKv
from laminar.cluster.etcd.statistics import EtcdStatistics

__all__ = ["EtcdKv", "EtcdStatistics"]
