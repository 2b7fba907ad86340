"""Agents of both kinds: what they say is understood, and a real cluster goes through an ordeal."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict

import pytest

from benchmarks.namespace import inside
from benchmarks.ordeal import Action, Deed
from benchmarks.peers.fleet import waited_ns
from benchmarks.peers.laminar_gossip import Laminar
from benchmarks.peers.serf import Serf, version
from benchmarks.process import Child, PeerMissing
from benchmarks.sightings import Saw

KEY = bytes(32)
ACTIONS = [
    Action(0.2, Deed.CHANGE, 1, "new"),
    Action(0.5, Deed.STOP, 2),
    Action(1.0, Deed.KILL, 3),
    Action(1.5, Deed.RESUME, 2),
]


@pytest.fixture
def serf(tmp_path, monkeypatch) -> Serf:
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")
    return Serf(tmp_path, KEY)


def test_without_serf_it_is_missing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(PeerMissing, match="Debian's package serf"):
        Serf(tmp_path, KEY)
    assert version() == "not installed"


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("[INFO] serf: EventMemberJoin: agent-1 127.0.0.1", ("agent-1", Saw.ALIVE, None)),
        ("[INFO] serf: EventMemberFailed: agent-2 127.0.0.1", ("agent-2", Saw.DEAD, None)),
        ("[INFO] serf: EventMemberUpdate: agent-12", ("agent-12", Saw.CHANGED, None)),
        ("[INFO] memberlist: Suspect agent-2 has failed, no acks received", None),
        ("[INFO] agent: Received event: member-failed", None),
        ("==> Serf agent running!", None),
    ],
)
def test_serf_is_heard_by_its_log(serf, text, heard) -> None:
    assert serf.hear(f"    2026/11/21 08:40:01 {text}".encode()) == heard


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ({"node": "agent-1", "state": "alive"}, ("agent-1", Saw.ALIVE, None)),
        ({"node": "agent-1", "state": "dead"}, ("agent-1", Saw.DEAD, None)),
        ({"node": "agent-1", "state": "suspect"}, None),
        ({"node": "agent-1", "value": "new"}, ("agent-1", Saw.CHANGED, "new")),
    ],
)
def test_laminar_is_heard_by_its_lines(tmp_path, said, heard) -> None:
    assert Laminar(tmp_path, KEY).hear(json.dumps(said).encode()) == heard


def test_both_are_started_alike(serf, tmp_path) -> None:
    for system in (serf, Laminar(tmp_path, KEY)):
        first = system.command("agent-0", "127.0.0.1:7946", None)
        second = system.command("agent-1", "127.0.0.1:7947", "127.0.0.1:7946")
        assert not any("7946" in word for word in second[:-1])
        assert "7946" in second[-1]
        assert len(second) == len(first) + 1


def test_serfs_tags_are_changed_by_its_configuration(serf, tmp_path, monkeypatch) -> None:
    told = []
    monkeypatch.setattr(os, "kill", lambda *what: told.append(what))
    command = serf.command("agent-1", "127.0.0.1:7947", None)
    config = tmp_path / "agent-1.json"
    assert f"-config-file={config}" in command
    serf.change("agent-1", "new", 123, 0)
    assert json.loads(config.read_text()) == {"tags": {"value": "new"}}
    assert [pid for pid, _ in told] == [123]


def test_waiting_is_the_second_figure() -> None:
    assert waited_ns("123 57094 1\n") == 57094


@pytest.mark.slow
@pytest.mark.parametrize("system", ["laminar", "serf"])
def test_a_fleet_goes_through_an_ordeal(tmp_path, system) -> None:
    try:
        child = Child(
            "fleet:run",
            tmp_path / "logs",
            inside=inside(),
            system=system,
            folder=str(tmp_path),
            agents=4,
            settle_seconds=2.0,
            idle_seconds=1.0,
            busy_seconds=2.0,
            actions=[asdict(action) for action in ACTIONS],
        )
    except PeerMissing as missing:
        pytest.skip(str(missing))
    try:
        report = child.expect(90)
    except PeerMissing as missing:
        pytest.skip(str(missing))
    finally:
        child.stop()
    assert len(report["convergences"]) == 1
    assert len(report["detections"]) == 2  # the one that was stopped is no witness
    assert min(report["detections"]) > 1
    assert (report["missed"], report["rejoins"]) == (0, [])
    # A phase in which the machine stood still may have seen none.
    assert sum(phase["network_bytes"] for phase in report["phases"]) > 100
    for phase in report["phases"]:
        assert phase["cpu_seconds"] >= 0
        assert phase["waited_seconds"] > 0
