import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from laminar.admin.exposition import Exposition
from laminar.admin.metrics import METRICS
from tests.admin.snapshots import EMPTY, FULL

PAGE = Path(__file__).parents[2] / "docs" / "admin.md"
UNITS = ("_bytes", "_seconds", "_frames", "_batches", "_datagrams")


def samples(snapshot, accept="text/plain"):
    """Values by name and labels, of this package's metrics."""
    text, _ = Exposition(lambda: snapshot).text(accept)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name.startswith("laminar_")
    }


TO_B = (("channel", "orders"), ("peer", "b"))
B, C = (("peer", "b"),), (("peer", "c"),)


VALUES = [
    ("node_info", (("cluster", "prod"), ("node", "a"), ("version", "1.2.3")), 1),
    ("node_uptime_seconds", (), 60.5),
    ("members", (("state", "alive"),), 2),
    ("members", (("state", "dead"),), 1),
    ("members", (("state", "suspect"),), 0),
    ("shuffle_sent_frames_total", TO_B, 1),
    ("shuffle_sent_batches_total", TO_B, 2),
    ("shuffle_sent_bytes_total", TO_B, 3),
    ("shuffle_send_queued_bytes", TO_B, 4),
    ("shuffle_send_queued_frames", TO_B, 5),
    ("shuffle_send_credit_bytes", TO_B, 6),
    ("shuffle_send_blocked_seconds_total", TO_B, 7.5),
    ("shuffle_send_connected", B, 1),
    ("shuffle_send_silence_seconds", B, 20.5),
    ("shuffle_send_reconnects_total", B, 21),
    ("shuffle_wire_sent_frames_total", B, 23),
    ("shuffle_wire_sent_bytes_total", B, 24),
    ("shuffle_received_frames_total", TO_B, 11),
    ("shuffle_received_batches_total", TO_B, 12),
    ("shuffle_received_bytes_total", TO_B, 13),
    ("shuffle_receive_queued_bytes", TO_B, 14),
    ("shuffle_receive_queued_frames", TO_B, 15),
    ("shuffle_receive_credit_bytes", TO_B, 16),
    ("shuffle_receive_connected", B, 0),
    ("shuffle_receive_silence_seconds", C, 33.5),
    ("shuffle_receive_reconnects_total", B, 30),
    ("shuffle_receive_duplicates_total", B, 32),
    ("shuffle_drops_total", (("reason", "version"),), 71),
    ("shuffle_accept_failures_total", (), 72),
    ("tls_reloads_total", (("end", "sender"),), 61),
    ("tls_reload_failures_total", (("end", "sender"),), 62),
    ("tls_reloads_total", (("end", "receiver"),), 73),
    ("tls_reload_failures_total", (("end", "receiver"),), 74),
    ("gossip_rounds_total", (), 41),
    ("gossip_sent_datagrams_total", (), 42),
    ("gossip_sent_bytes_total", (), 43),
    ("gossip_received_datagrams_total", (), 44),
    ("gossip_received_bytes_total", (), 45),
    ("gossip_unanswered_total", (), 52),
    ("gossip_suspicions_total", (), 46),
    ("gossip_refutations_total", (), 53),
    ("gossip_deaths_total", (), 47),
    ("gossip_renewals_total", (), 48),
    ("gossip_tick_lateness_seconds", (), 49.5),
    ("gossip_health_score", (), 50),
    ("gossip_drops_total", (("reason", "key"),), 51),
    ("gossip_network_errors_total", (("call", "send"),), 84),
]


@pytest.mark.parametrize(("name", "labels", "value"), VALUES)
def test_each_number_is_under_its_name(name, labels, value):
    assert samples(FULL)[f"laminar_{name}", *labels] == value


def test_each_number_there_is_was_looked_at():
    assert {f"laminar_{name}" for name, *_ in VALUES} == {metric.name for metric in METRICS}


def test_both_formats_say_the_same():
    text, _ = Exposition(lambda: FULL).text("application/openmetrics-text; version=1.0.0")
    families = openmetrics.text_string_to_metric_families(text.decode())
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("laminar_")
    }
    assert found == samples(FULL)


def test_of_what_there_is_nothing_nothing_is_said():
    found = samples(EMPTY)
    assert {name for name, *_ in found} == {
        "laminar_node_info",
        "laminar_node_uptime_seconds",
        "laminar_members",
        "laminar_shuffle_accept_failures_total",
    }
    silent = ("laminar_shuffle_receive_silence_seconds", *B)
    assert silent not in samples(FULL)  # there is no connection


def test_the_process_is_told_of_too():
    text, _ = Exposition(lambda: EMPTY).text("")
    names = {family.name for family in text_string_to_metric_families(text.decode())}
    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections"} <= names


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric):
    assert re.fullmatch(r"laminar(_[a-z]+)+", metric.name)
    stem = metric.name.removesuffix("_total")
    if any(unit in stem for unit in UNITS):
        assert stem.endswith(UNITS), "the unit comes last"
    assert metric.help.endswith(".")


def test_no_name_is_given_twice():
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))


def test_the_page_lists_all_of_them():
    """When one is new, the difference shows what the table there should be."""
    page = PAGE.read_text()
    start = page.index("| metric |")
    assert page[start:].partition("\n\n")[0] == table()


def table() -> str:
    rows = ["| metric | labels | |", "|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {labels} | {metric.help} |")
    return "\n".join(rows)
