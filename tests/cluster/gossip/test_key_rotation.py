"""No schedule leaves two members without a common key."""

from collections import defaultdict
from copy import deepcopy

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from laminar.cluster.gossip.key_messages import (
    NO_CLAIM,
    Claim,
    KeyOrder,
    KeyReport,
    Stage,
    decode_order,
    decode_report,
)
from laminar.cluster.gossip.key_rotation import KeyRotation
from laminar.cluster.gossip.member import Member, MemberState
from laminar.cluster.gossip.slot import KEY_ORDER_KEY, KEY_REPORT_KEY
from laminar.cluster.keyring import Keyring, key_id
from laminar.cluster.kv import KvEvent
from laminar.errors import ConfigError

ALIVE, DEAD, JOINING, LEFT = (
    MemberState.ALIVE,
    MemberState.DEAD,
    MemberState.JOINING,
    MemberState.LEFT,
)
OLD = b"o" * 32
NEW = [bytes([number]) * 32 for number in range(4)]
NAMES = "abcd"
GRACE_S = 2.0


class Slot:
    """What one node says of itself, or what another one knows of that."""

    def __init__(self, incarnation):
        self.incarnation = incarnation
        self.version = 0
        self.keys = {}

    @property
    def age(self):
        return (self.incarnation, self.version)


class Node:
    """One life of a node: its rotation, its slot, and its copies of those of others."""

    def __init__(self, name, ring, incarnation):
        self.name = name
        self.ring = ring
        self.file = ring.keys
        self.rotation = KeyRotation(name, ring, settle_s=0.0, grace_s=GRACE_S)
        self.settled = False
        self.slots = {name: Slot(incarnation)}
        self.states = {name: ALIVE}
        self.publish()

    def members(self):
        return {
            name: Member(name, slot.incarnation, self.states[name], None)
            for name, slot in self.slots.items()
        }

    def publish(self):
        slot, rotation = self.slots[self.name], self.rotation
        order = None if rotation.order is None else rotation.order.encode()
        for key, value in ((KEY_ORDER_KEY, order), (KEY_REPORT_KEY, rotation.report.encode())):
            if slot.keys.get(key) != value:
                slot.keys[key] = value
                slot.version += 1

    def step(self, now):
        self.rotation.advance(self.members(), now)
        if self.rotation.unsaved:
            self.file = self.ring.keys
            self.rotation.saved()
        self.publish()
        self.rotation.proceed(self.members(), now)
        self.publish()

    def hear(self, name, slot, *, direct):
        known = self.slots.get(name)
        if name == self.name or (known is not None and known.age >= slot.age):
            if direct:
                self.states[name] = ALIVE
            return
        before = {} if known is None else known.keys
        for key in {**before, **slot.keys}:
            if before.get(key) != slot.keys.get(key):
                self.rotation.on_event(KvEvent(name, key, slot.keys.get(key)))
        if known is None or known.incarnation < slot.incarnation:
            self.states[name] = JOINING
        self.slots[name] = deepcopy(slot)
        if direct:
            self.states[name] = ALIVE


class Cluster:
    """Some nodes, and who can reach whom."""

    def __init__(self, names=NAMES):
        self.now = 0.0
        self.incarnations = 0
        self.running, self.files = {}, {}
        self.cuts = set()
        self.tags = 0
        for name in names:
            self.start(name, [OLD])
            self.settle_in(name)
        for _ in names:
            for one in names:
                for other in names:
                    self.talk(one, other)

    def start(self, name, keys):
        self.incarnations += 1
        self.running[name] = Node(name, Keyring(keys), self.incarnations)

    def settle_in(self, name):
        self.running[name].settled = True
        self.running[name].rotation.joined(self.now)

    def talk(self, one, other):
        """A SYN, and answers in kind, if the SYN can be read."""
        self.now += 1.0
        a, b = self.running.get(one), self.running.get(other)
        if a is None or b is None or a is b or frozenset((one, other)) in self.cuts:
            return
        if b.ring.key(a.ring.primary) is None:
            return
        for mine, yours in ((a, b), (b, a)):
            for name, slot in list(yours.slots.items()):
                mine.hear(name, slot, direct=name == yours.name)
        if a.settled or b.settled:
            # Who talks to one that knows all knows all.
            self.settle_in(one)
            self.settle_in(other)
        for node in (a, b):
            node.step(self.now)

    def begin(self, name, number, what):
        node = self.running.get(name)
        if node is None:
            return
        self.tags += 1
        ring, key = node.ring, NEW[number]
        how = {"retired": None, "skip_dead": False, "tag": self.tags}
        try:
            if what == "rotate":
                node.rotation.begin(key_id(key), key, Stage.REMOVE, **how)
            elif what == "install":
                node.rotation.begin(key_id(key), key, Stage.INSTALL, **how)
            elif what == "use":
                identity = ring.ids[number % len(ring.ids)]
                node.rotation.begin(identity, None, Stage.USE, **how)
            elif (identity := ring.ids[number % len(ring.ids)]) != ring.primary:
                how["retired"] = identity
                node.rotation.begin(ring.primary, None, Stage.REMOVE, **how)
        except ConfigError:
            return
        node.publish()
        node.step(self.now)

    def withdraw(self, name):
        if name in self.running:
            self.running[name].rotation.withdraw()
            self.running[name].publish()

    def crash(self, name):
        if name in self.running:
            self.files[name] = self.running.pop(name).file

    def restart(self, name):
        self.crash(name)
        self.start(name, self.files[name])

    def bury(self, one, other):
        """One takes the other for dead, rightly or not."""
        node = self.running.get(one)
        if node is not None and other in node.states and one != other:
            node.states[other] = DEAD

    def cut(self, one, other):
        self.cuts.add(frozenset((one, other)))

    def heal(self):
        self.cuts.clear()

    def settle(self):
        """All talk to all until nothing changes any more."""
        self.heal()
        for _ in range(8):
            for one in self.running:
                for other in self.running:
                    self.talk(one, other)

    def check(self):
        for a in self.running.values():
            for b in self.running.values():
                assert b.ring.key(a.ring.primary) is not None, (
                    f"{b.name} {b.ring} cannot read {a.name} {a.ring}"
                )


name = st.sampled_from(NAMES)
pair = st.tuples(name, name)
ACTIONS = st.one_of(
    *[st.tuples(st.just("talk"), name, name)] * 8,
    st.tuples(
        st.just("begin"), name, st.integers(0, 3), st.sampled_from(["rotate"] * 3 + ["install", "use", "remove"])
    ),
    st.tuples(st.just("withdraw"), name),
    st.tuples(st.just("crash"), name),
    st.tuples(st.just("restart"), name),
    st.tuples(st.just("bury"), name, name),
    st.tuples(st.just("cut"), name, name),
    st.tuples(st.just("heal")),
)


def act(cluster, what, *arguments):
    if what == "restart" and arguments[0] not in cluster.running | cluster.files:
        return
    getattr(cluster, what)(*arguments)


@settings(max_examples=500)
@given(st.lists(ACTIONS, max_size=120))
def test_whatever_happens_all_members_can_read_each_other(actions):
    cluster = Cluster()
    for action in actions:
        act(cluster, *action)
        cluster.check()
    for name in NAMES:
        if name not in cluster.running:
            act(cluster, "restart", name)
    cluster.settle()
    cluster.check()
    rings = {node.ring.primary for node in cluster.running.values()}
    event(f"primaries {len(rings)}")
    event(f"keys {max(len(node.ring.ids) for node in cluster.running.values())}")
    event(f"old key gone {all(node.ring.key(key_id(OLD)) is None for node in cluster.running.values())}")
