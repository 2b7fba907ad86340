"""What every node really did, and whether what others believe of it is so."""

from collections import defaultdict

from laminar.cluster.gossip.member import Member, MemberState
from laminar.cluster.gossip.messages import LANES
from laminar.cluster.gossip.slot import RESERVED_PREFIX
from laminar.cluster.kv import KvEvent


class Life:
    """All changes that one process made to its slot."""

    def __init__(self):
        self.changes = {number: [] for number in LANES}
        """Version, key and value of each change that can have been told to anybody."""
        self.heartbeat = 0

    def note(self, slot, now):
        self.heartbeat = slot.heartbeat
        for number, lane in slot.lanes():
            changes = self.changes[number]
            known = changes[-1][0] if changes else 0
            if lane.max_version > known:
                changes += [(item.version, item.key, item.value) for item in lane.since(known, now)]

    def state_at(self, number, version):
        """What the slot held then, and which keys were changed later."""
        state, later = {}, set()
        for changed, key, value in self.changes[number]:
            if changed <= version:
                state[key] = value
            else:
                later.add(key)
        return {key: value for key, value in state.items() if value is not None}, later


class Ledger:
    """Watches a world. What it finds wrong is an ``AssertionError``."""

    def __init__(self, world, mortal=()):
        self.world = world
        self.lives = {}
        self.told = defaultdict(dict)
        self.members = defaultdict(dict)
        self._by_core = {}
        self._mortal = set(mortal)
        """Keys with a time to live, which may vanish by themselves."""
        world.after = self.after

    def after(self, node):
        core = node.core
        if core not in self._by_core:
            self._by_core[core] = Life()
        life = self._by_core[core]
        life.note(core._own, node.now)
        key = (core.node, core.incarnation)
        assert self.lives.setdefault(key, life) is life, f"two lives have the incarnation of {key}"
        for event in core.take_events():
            if isinstance(event, KvEvent):
                cells = self.told[core]
                assert cells.get((event.node, event.key)) != event.value, f"told twice: {event}"
                cells[event.node, event.key] = event.value
            else:
                assert self.members[core].get(event.node) != event, f"told twice: {event}"
                self.members[core][event.node] = event

    def check(self):
        """What must hold at any time."""
        for node in self.world.nodes.values():
            if node.running:
                self.after(node)
                self._check_view(node)
                self._check_events(node)
                self._check_memory(node)

    def _check_view(self, node):
        for slot in node.core._view.others():
            life = self.lives.get((slot.node, slot.incarnation))
            assert life is not None, f"{node.node} believes in a life that never was: {slot.digest}"
            assert slot.heartbeat <= life.heartbeat, f"{slot.node} never lived so long"
            for number, lane in slot.lanes():
                if not lane.complete:
                    continue
                state, later = life.state_at(number, lane.max_version)
                held = dict(lane.items(node.now))
                ever = {(key, value) for _, key, value in life.changes[number]}
                # Of what was changed later, a copy may have an older value than it has seen.
                wrong = {
                    (key, value)
                    for key, value in held.items() - state.items()
                    if key not in later or (key, value) not in ever
                }
                assert not wrong, (
                    f"{node.node} reads what {slot.node} deleted or never had: {wrong}"
                )
                lost = state.keys() - held.keys() - later - self._mortal
                assert not lost, f"{node.node} has lost keys of {slot.node}: {lost}"

    def _check_events(self, node):
        told = {
            cell: value
            for cell, value in self.told[node.core].items()
            if value is not None and cell[1] not in self._mortal
        }
        held = {
            (name, key): value
            for name, keys in node.core.scan("", node.now).items()
            for key, value in keys.items()
            if key not in self._mortal
        }
        told = {
            cell: value for cell, value in told.items() if not cell[1].startswith(RESERVED_PREFIX)
        }
        assert told == held, f"{node.node} was told {told} and reads {held}"
        for name, member in node.core.members().items():
            # The address is a key like others, and told as one.
            last = self.members[node.core][name]
            assert (last.incarnation, last.state) == (member.incarnation, member.state)

    def _check_memory(self, node):
        view, config = node.core._view, self.world.config
        assert len(view.slots) <= config.nodes_max
        assert len(view.graves) <= config.graves_max
        assert len(view.rotation) == len(view.partners) == len(view.slots) - 1
        assert set(node.core._suspicion.asking) <= view.slots.keys()
        assert len(node.core._herald) <= 2 * len(view.slots)
        assert len(view._mortals) <= len(view.slots)
        assert len(node.core._exchange._news) <= config.nodes_max
        for slot in view.slots.values():
            assert slot.size_bytes <= 2 * config.slot_bytes_max
            for _, lane in slot.lanes():
                assert lane.tombstones <= config.tombstones_max + 1

    def check_equal(self):
        """All that run see one another alive, and the same keys: their own."""
        running = [node for node in self.world.nodes.values() if node.running]
        truth = {}
        for node in running:
            own = node.core.scan("", node.now).get(node.node)
            if own:
                truth[node.node] = own
        for node in running:
            members = node.core.members()
            for other in running:
                member = members.get(other.node)
                assert member is not None, f"{node.node} does not know {other.node}"
                assert member == Member(
                    other.node, other.core.incarnation, MemberState.ALIVE, other.addr
                ), f"{node.node} sees {member}, which is {other.core.incarnation}"
            names = {other.node for other in running}
            seen = {
                name: keys for name, keys in node.core.scan("", node.now).items() if name in names
            }
            assert seen == truth, f"{node.node} reads {seen} instead of {truth}"

    def check_gone(self):
        """Nobody remembers the keys or the state of those who are gone."""
        running = {node.node for node in self.world.nodes.values() if node.running}
        for node in self.world.nodes.values():
            if node.running:
                ghosts = {
                    name: member.state
                    for name, member in node.core.members().items()
                    if name not in running
                }
                assert not ghosts, f"{node.node} still sees {ghosts}"
