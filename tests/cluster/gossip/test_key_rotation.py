"""No schedule leaves two members without a common key."""

import itertools
from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from laminar.cluster.gossip.key_messages import (
    NO_CLAIM,
    Claim,
    KeyReport,
    Stage,
    decode_order,
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
        if self.rotation.superseded:
            self.rotation.withdraw()
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
                self.rotation.on_event(KvEvent(name, key, slot.keys.get(key)), 0.0)
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
        self.round()

    def start(self, name, keys):
        self.incarnations += 1
        self.running[name] = Node(name, Keyring(keys), self.incarnations)

    def settle_in(self, name):
        self.running[name].settled = True
        self.running[name].rotation.on_event(Member(name, 1, ALIVE, None), self.now)

    def talk(self, one, other, shares=""):
        """A SYN, and answers in kind, if the SYN can be read.

        ``shares`` is how much each tells of the slots in turn: all, that it is there, or nothing.
        """
        self.now += 1.0
        a, b = self.running.get(one), self.running.get(other)
        if a is None or b is None or a is b or frozenset((one, other)) in self.cuts:
            return
        if b.ring.key(a.ring.primary) is None:
            return
        shared = itertools.chain(shares, itertools.repeat("all"))
        for mine, yours in ((a, b), (b, a)):
            for name, slot in list(yours.slots.items()):
                share = next(shared)
                if share == "all":
                    mine.hear(name, slot, direct=name == yours.name)
                elif share == "there" or name == yours.name:
                    mine.hear(name, Slot(slot.incarnation), direct=name == yours.name)
        for mine, yours in ((a, b), (b, a)):
            if yours.settled and mine.slots.keys() >= yours.slots.keys():
                self.settle_in(mine.name)  # it knows whom it has to wait for
        for node in (a, b):
            node.step(self.now)

    def begin(self, name, number, what, *, skip_dead=False):
        node = self.running.get(name)
        if node is None or not node.settled:
            return
        self.tags += 1
        ring, key = node.ring, NEW[number]
        how = {"retired": None, "skip_dead": skip_dead, "tag": self.tags}
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

    def join(self, via):
        """A node that was away for long starts with the keys it had, and finds another one."""
        if "e" not in self.running and via in self.running:
            self.start("e", [OLD])
            self.talk("e", via)

    def round(self):
        """All talk to all who they can reach."""
        for one, other in itertools.product(list(self.running), repeat=2):
            self.talk(one, other)

    def settle(self):
        """All talk to all until nothing changes any more."""
        self.heal()
        for _ in range(8):
            self.round()

    def holders(self, key):
        return {node.name for node in self.running.values() if node.ring.key(key_id(key))}

    def check(self):
        for a in self.running.values():
            for b in self.running.values():
                assert b.ring.key(a.ring.primary) is not None, (
                    f"{b.name} {b.ring} cannot read {a.name} {a.ring}"
                )


NAME = st.sampled_from(NAMES)
SHARES = st.lists(st.sampled_from(["all", "all", "there", "nothing"]), max_size=10)
CHANGE = st.sampled_from(["rotate", "rotate", "rotate", "install", "use", "remove"])
TALK = st.tuples(st.just("talk"), NAME, NAME, SHARES)
BEGIN = st.tuples(st.just("begin"), NAME, st.integers(0, 3), CHANGE)
ROUND = st.tuples(st.just("round"))
ACTIONS = st.one_of(
    *[TALK] * 4,
    *[ROUND] * 4,
    BEGIN,
    BEGIN,
    st.tuples(st.just("withdraw"), NAME),
    st.tuples(st.just("crash"), NAME),
    st.tuples(st.just("restart"), NAME),
    st.tuples(st.just("bury"), NAME, NAME),
    st.tuples(st.just("cut"), NAME, NAME),
    st.tuples(st.just("heal")),
)


def act(cluster, what, *arguments):
    getattr(cluster, what)(*arguments)


@settings(max_examples=150)
@given(st.lists(ACTIONS, min_size=20, max_size=150))
def test_whatever_happens_all_members_can_read_each_other(actions):
    """Several coordinators at once, crashes and restarts, partitions, and wrong suspicions."""
    cluster = Cluster()
    for action in actions:
        act(cluster, *action)
        cluster.check()
    for name in NAMES:
        cluster.restart(name)
    cluster.settle()
    cluster.check()
    event(f"the old key is gone: {cluster.holders(OLD) == set()}")


@settings(max_examples=60)
@given(
    st.lists(st.one_of(TALK, TALK, ROUND, BEGIN), max_size=30),
    NAME,
    st.lists(
        st.tuples(
            st.just("talk"), st.sampled_from(NAMES + "e"), st.sampled_from(NAMES + "e"), SHARES
        ),
        max_size=60,
    ),
)
def test_who_joins_meanwhile_takes_the_key_too(before, via, after):
    cluster = Cluster()
    for action in before:
        act(cluster, *action)
    cluster.join(via)
    admitted = "e" in cluster.running[via].slots
    for action in after:
        act(cluster, *action)
    cluster.settle()
    event(f"admitted: {admitted}")
    if admitted:
        cluster.check()
    else:
        assert cluster.running["e"].ring.keys == (OLD,)


# -- one rule at a time ------------------------------------------------------------------------


def test_a_key_is_replaced_everywhere():
    cluster = Cluster()
    cluster.begin("b", 0, "rotate")
    cluster.settle()
    assert cluster.holders(NEW[0]) == set(NAMES)
    assert cluster.holders(OLD) == set()
    for node in cluster.running.values():
        assert node.file == (NEW[0],)
        assert node.rotation.report.stage is Stage.REMOVE
        assert node.rotation.idle
        assert not any(NEW[0].hex() in str(slot.keys) for slot in node.slots.values())


def test_nobody_uses_a_key_that_one_member_lacks():
    cluster = Cluster()
    for name in "abc":
        cluster.cut(name, "d")
    cluster.begin("a", 0, "rotate")
    for _ in range(9):
        cluster.round()
    assert cluster.holders(NEW[0]) == set("abc")
    assert {node.ring.primary for node in cluster.running.values()} == {key_id(OLD)}
    coordinator = cluster.running["a"]
    assert coordinator.rotation.lacking(coordinator.members()) == {
        "d": "it has not heard of the change (alive)"
    }
    cluster.withdraw("a")
    cluster.settle()
    assert cluster.holders(OLD) == set(NAMES)
    cluster.begin("a", 1, "rotate")
    cluster.settle()
    assert cluster.holders(NEW[1]) == set(NAMES)
    assert cluster.holders(NEW[0]) == cluster.holders(OLD) == set()


def test_the_dead_are_waited_for_unless_they_are_skipped():
    cluster = Cluster()
    cluster.crash("d")
    for name in "abc":
        cluster.bury(name, "d")
    cluster.begin("a", 0, "rotate")
    cluster.settle()
    assert cluster.holders(OLD) == set("abc")
    cluster.withdraw("a")
    cluster.begin("a", 0, "rotate", skip_dead=True)
    cluster.settle()
    assert cluster.holders(OLD) == set()
    cluster.restart("d")
    cluster.settle()
    assert cluster.running["d"].ring.keys == (OLD,)
    assert cluster.running["a"].states["d"] is DEAD


def test_a_member_waits_for_one_that_the_coordinator_does_not_know():
    cluster = Cluster()
    cluster.begin("a", 0, "rotate")
    while cluster.running["a"].rotation.order.stage is not Stage.REMOVE:
        for one, other in itertools.product(NAMES, repeat=2):
            if "REMOVE" not in str(cluster.running["a"].rotation.order):
                cluster.talk(one, other)
    cluster.start("e", [OLD])
    cluster.talk("e", "d", ["there"] * 9)
    assert "e" not in cluster.running["a"].slots
    cluster.talk("a", "d")
    assert cluster.running["d"].ring.ids == (key_id(OLD), key_id(NEW[0]))
    cluster.settle()
    assert cluster.holders(NEW[0]) == set(NAMES + "e")
    assert cluster.holders(OLD) == set()


def test_a_newcomer_that_may_not_know_all_uses_no_key_by_order():
    cluster = Cluster()
    cluster.begin("a", 0, "rotate")
    cluster.start("e", [OLD])
    newcomer = cluster.running["e"]
    newcomer.hear("a", cluster.running["a"].slots["a"], direct=True)
    use = decode_order(newcomer.slots["a"].keys[KEY_ORDER_KEY])
    newcomer.rotation.on_event(
        KvEvent("a", KEY_ORDER_KEY, replace(use, stage=Stage.USE).encode()), 0.0
    )
    newcomer.step(5.0)
    assert newcomer.ring.primary == key_id(OLD)
    newcomer.rotation.on_event(Member("e", 1, ALIVE, None), 5.0)
    newcomer.step(5.0)
    assert newcomer.ring.primary == key_id(NEW[0])


def test_an_old_order_brings_no_removed_key_back():
    cluster = Cluster()
    cluster.begin("d", 0, "install")
    cluster.talk("d", "a")
    stale = deepcopy(cluster.running["a"].slots["d"])
    assert stale.keys[KEY_ORDER_KEY] is not None
    cluster.withdraw("d")
    cluster.settle()
    cluster.begin("a", 1, "rotate")
    cluster.settle()
    assert cluster.holders(NEW[0]) == set()
    cluster.restart("b")
    node = cluster.running["b"]
    node.hear("a", cluster.running["a"].slots["a"], direct=True)
    node.hear("d", stale, direct=False)
    node.step(cluster.now)
    assert node.ring.keys == (NEW[1],)


def test_old_keys_stay_until_what_they_sealed_has_arrived():
    rotation = KeyRotation("a", Keyring([OLD]), settle_s=0.0, grace_s=3.0)
    members = {"a": Member("a", 1, ALIVE, None)}
    rotation.on_event(members["a"], 0.0)
    rotation.begin(key_id(NEW[0]), NEW[0], Stage.REMOVE, retired=None, skip_dead=False, tag=1)
    for stage, now in ((Stage.INSTALL, 1.0), (Stage.USE, 4.0), (Stage.REMOVE, 4.0)):
        assert rotation.order.stage is stage
        rotation.advance(members, 1.0)
        rotation.saved()
        if stage is Stage.USE:
            assert not rotation.proceed(members, 1.0)
            assert not rotation.proceed(members, 3.9)
        assert rotation.proceed(members, now)
    assert rotation.order is None


def test_what_is_not_saved_is_not_reported():
    ring = Keyring([OLD])
    rotation = KeyRotation("a", ring, settle_s=0.0, grace_s=0.0)
    members = {"a": Member("a", 1, ALIVE, None)}
    rotation.on_event(members["a"], 0.0)
    rotation.begin(key_id(NEW[0]), NEW[0], Stage.INSTALL, retired=None, skip_dead=False, tag=1)
    rotation.advance(members, 0.0)
    assert rotation.unsaved
    rotation.not_saved("the disk is full")
    assert rotation.report.stage is Stage.NONE
    assert rotation.lacking(members) == {"a": "the disk is full"}
    assert not rotation.proceed(members, 0.0)
    rotation.saved()
    assert not rotation.unsaved
    assert rotation.proceed(members, 0.0)


def test_a_member_says_why_it_cannot_take_a_key():
    cluster = Cluster()
    for number in range(100, 107):
        cluster.running["c"].ring.install(bytes([number]) * 32)
    cluster.begin("a", 0, "rotate")
    cluster.settle()
    coordinator = cluster.running["a"]
    assert coordinator.rotation.lacking(coordinator.members()) == {
        "c": "a keyring holds at most 8 keys; remove an old one first (alive)"
    }
    cluster.withdraw("a")
    cluster.running["a"].ring.install(NEW[1])
    cluster.begin("a", 2, "use")
    cluster.settle()
    lacking = coordinator.rotation.lacking(coordinator.members())
    assert lacking["b"] == f"it does not have the key {key_id(NEW[1]).hex()} (alive)"


def test_the_later_of_two_coordinators_goes_on():
    cluster = Cluster()
    cluster.begin("a", 0, "rotate")
    cluster.begin("b", 1, "rotate")
    with pytest.raises(ConfigError, match="changing the keys already"):
        cluster.running["b"].rotation.begin(
            key_id(OLD), None, Stage.USE, retired=None, skip_dead=False, tag=9
        )
    cluster.talk("a", "b")
    assert cluster.running["a"].rotation.order is None
    cluster.settle()
    assert cluster.holders(NEW[1]) == set(NAMES)
    assert cluster.holders(NEW[0]) == cluster.holders(OLD) == set()


def test_numbers_that_are_used_up_are_told():
    rotation = KeyRotation("a", Keyring([OLD]), settle_s=0.0, grace_s=0.0)
    report = KeyReport(Claim(10**18 - 1, 1), Stage.INSTALL, key_id(OLD), (key_id(OLD),))
    rotation.on_event(KvEvent("b", KEY_REPORT_KEY, report.encode()), 0.0)
    with pytest.raises(ConfigError, match="used up the numbers"):
        rotation.begin(key_id(OLD), None, Stage.USE, retired=None, skip_dead=False, tag=9)


def test_who_left_is_not_waited_for():
    cluster = Cluster()
    cluster.crash("d")
    for name in "abc":
        cluster.running[name].states["d"] = LEFT
    cluster.begin("a", 0, "rotate")
    cluster.settle()
    assert cluster.holders(OLD) == set()


def test_nonsense_counts_as_nothing():
    rotation = KeyRotation("a", Keyring([OLD]), settle_s=0.0, grace_s=0.0)
    for key in (KEY_ORDER_KEY, KEY_REPORT_KEY):
        rotation.on_event(KvEvent("b", key, "nonsense"), 0.0)
    assert rotation.drops == 2
    assert rotation.idle
    assert rotation.reports.keys() == {"a"}
    assert rotation.report.claim == NO_CLAIM


def test_who_has_just_joined_waits_and_says_so():
    rotation = KeyRotation("a", Keyring([OLD]), settle_s=20.0, grace_s=0.0)
    members = {"a": Member("a", 1, ALIVE, None)}
    rotation.on_event(members["a"], 0.0)
    assert rotation.waits_for(members, 1.0) == {}
    begin(rotation, NEW[0])
    assert rotation.waits_for(members, 1.0) == {"a": "it is on the way"}
    rotation.advance(members, 1.0)
    rotation.saved()
    waits = {"a": "it has just joined and may not know all members yet"}
    assert rotation.waits_for(members, 19.9) == waits
    assert not rotation.proceed(members, 19.9)
    assert rotation.waits_for(members, 20.0) == {}
    assert rotation.proceed(members, 20.0)


def begin(rotation, key):
    rotation.begin(key_id(key), key, Stage.REMOVE, retired=None, skip_dead=False, tag=1)
