"""Metrics in the formats that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from laminar.admin.metrics import METRICS
from laminar.node.statistics import NodeStatistics


class NodeCollector(Collector):
    """Takes one snapshot of a node for each scrape."""

    def __init__(self, snapshot: Callable[[], NodeStatistics]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        """All metrics of the node. Those of which there is nothing have no samples."""
        node = self._snapshot()
        for metric in METRICS:
            kind = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.samples(node):
                family.add_metric(labels, value)
            yield family


class Exposition:
    """The metrics of a node and of its process."""

    def __init__(self, snapshot: Callable[[], NodeStatistics]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(NodeCollector(snapshot))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """What to answer to that ``Accept`` header, and the type of it."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
