"""However many come and go, a node that stays remembers no more than its limits allow."""

import pytest

from fuzz.state import state_of
from laminar.cluster.gossip.exchange import Exchange
from laminar.cluster.gossip.lane import Lane
from laminar.cluster.gossip.view import View
from laminar.cluster.tenure import Tenure
from laminar.config import DatagramConfig, GossipConfig
from laminar.testing.datagrams import DatagramFaults
from laminar.testing.gossip import GossipWorld

pytestmark = pytest.mark.slow

CONFIG = GossipConfig(
    interval_s=1.0, forget_s=6.0, graves_max=10, nodes_max=20, tombstone_s=8.0, tombstones_max=6
)
DATAGRAMS = DatagramConfig(
    senders_max=12, sender_idle_s=5.0, addresses_max=12, proof_lifetime_s=5.0
)
STORM = DatagramFaults(loss=0.1, duplication=0.1, delay_s=(0.001, 0.3), corruption=0.05)
SEEDS = ("10.0.0.9:1", "10.0.0.9:2", "10.0.0.9:3")
CROWD, CROWDS = 15, 8
"""As many come and go one after the other; so many times. All limits are reached in the first."""


class Inn:
    """Three who stay, and guests, each with a name and an address of its own."""

    def __init__(self, seed):
        self.world = GossipWorld(seed, CONFIG, STORM, DATAGRAMS)
        self.world.after = lambda node: node.core.take_events()
        self.hosts = [
            self.world.start(f"host-{number}", seeds=SEEDS, addr=addr)
            for number, addr in enumerate(SEEDS)
        ]
        self.guests = 0

    def receive_guests(self):
        for _ in range(CROWD):
            self.guests += 1
            guest = self.world.start(f"guest-{self.guests:04}", seeds=SEEDS)
            for number in range(3):
                guest.write(f"k{number}", "v" * 50, ttl_s=3.0 if number == 2 else None)
            host = self.hosts[self.guests % len(self.hosts)]
            host.write(f"of guest {self.guests}", "v" * 50)
            host.delete(f"of guest {self.guests - len(self.hosts)}")
            self.world.run(3.0)
            guest.delete("k0")
            if self.guests % 2:
                guest.leave()
            self.world.run(1.0)
            self.world.crash(guest)

    def remembered(self):
        """Bytes of all that the hosts know."""
        return sum(len(state_of(host.core)) for host in self.hosts)


def nothing_piles_up():
    inn, sizes = Inn(seed=1), []
    for _ in range(CROWDS):
        inn.receive_guests()
        sizes.append(inn.remembered())
    for host in inn.hosts:
        assert host.running
        assert any(name.startswith("guest") for name in host.core.members())
        assert len(host.core.members()) <= CONFIG.nodes_max
    early, late = max(sizes[1:4]), max(sizes[-3:])
    assert late < 1.07 * early, sizes


def test_nothing_piles_up_of_those_who_came_and_went():
    nothing_piles_up()


# -- mistakes that the above would see ----------------------------------------------------------


def graves_are_kept_for_ever(monkeypatch):
    forget = View.forget

    def remember(view, slot, now):
        before = dict(view.graves)
        forget(view, slot, now)
        view.graves.update(before)

    monkeypatch.setattr(View, "forget", remember)


def news_is_never_old(monkeypatch):
    begin_round = Exchange.begin_round

    def keep(exchange, round_):
        before = dict(exchange._news)
        begin_round(exchange, round_)
        exchange._news.update(before)

    monkeypatch.setattr(Exchange, "begin_round", keep)


def senders_are_never_forgotten(monkeypatch):
    monkeypatch.setattr(Tenure, "_make_room", lambda tenure, now: None)


def tombstones_are_never_dropped(monkeypatch):
    monkeypatch.setattr(Lane, "collect", lambda *args: 0)


LEAKS = [
    tombstones_are_never_dropped,
    graves_are_kept_for_ever,
    news_is_never_old,
    senders_are_never_forgotten,
]


@pytest.mark.parametrize("plant", LEAKS, ids=[leak.__name__ for leak in LEAKS])
def test_a_planted_leak_is_caught(monkeypatch, plant):
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        nothing_piles_up()
