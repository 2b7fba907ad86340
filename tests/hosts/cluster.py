"""Some nodes, each a process, that send rows to one another without end."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from laminar.config import GossipConfig
from tests.hosts.lan import Lan
from tests.hosts.processes import NodeProcess
from tests.wiring import free_addr

SCRIPT = Path(__file__).parent / "node.py"
PORT = 7946

GOSSIP = GossipConfig(interval_s=0.05)
ROUNDS_TO_DEATH = 2 * GOSSIP.silence_intervals_max + GOSSIP.suspicion_intervals_max
"""After so many rounds without a sign of life anybody is taken for dead."""


class Cluster:
    """Nodes named by ``loops``, which says on which event loop each runs. The first is the seed.

    They live on the hosts of ``lan``, or on this one, and as long as ``stack``.
    """

    def __init__(self, stack: ExitStack, loops: Mapping[str, str], lan: Lan | None = None) -> None:
        self.names = list(loops)
        self.nodes: dict[str, NodeProcess] = {}
        self._stack = stack
        self._loops = loops
        self._lan = lan
        self._seed = self._addr(self.names[0]) if lan else free_addr()
        for name in loops:
            self.start(name)

    def start(self, name: str) -> NodeProcess:
        """Start ``name``, which does not run (any more)."""
        settings = {
            "node": name,
            "listen": self._addr(name),
            "seed": self._seed,
            "nodes": self.names,
            "loop": self._loops[name],
            "interval_s": GOSSIP.interval_s,
        }
        inside = self._lan.inside(name) if self._lan else ()
        node = NodeProcess(SCRIPT, settings, inside)
        self.nodes[name] = self._stack.enter_context(node)
        return node

    def others(self, name: str) -> list[NodeProcess]:
        """All but ``name``."""
        return [node for node in self.nodes.values() if node.name != name]

    def _addr(self, name: str) -> str:
        if self._lan:
            return f"{self._lan.ip(name)}:{PORT}"
        started = name in self.nodes  # and may not have its port again
        return self._seed if name == self.names[0] and not started else "127.0.0.1:0"

    # -- waiting -------------------------------------------------------------------------------

    def wait_whole(self) -> None:
        """Until all see all alive, and rows flow from each to each."""
        for node in self.nodes.values():
            node.wait_members(**dict.fromkeys(self.names, "alive"))
        self.wait_flow(self.names)

    def wait_rounds(self, more: int) -> None:
        """Until the gossip of all is so many rounds further: time has passed for it."""
        for node, last in [(node, node.last_round()) for node in self.nodes.values()]:
            node.wait_round(last + more)

    def wait_flow(self, names: Sequence[str], rows: int = 10) -> None:
        """Until so many more rows than now have arrived, from each of ``names`` at each other."""
        pairs = [(self.nodes[name], peer) for name in names for peer in names if peer != name]
        enough = [node.count_rows(peer) + rows for node, peer in pairs]
        for (node, peer), count in zip(pairs, enough, strict=True):
            node.wait_rows(peer, count)

    # -- checking ------------------------------------------------------------------------------

    def check_rows(self) -> None:
        """No row was lost, doubled or overtaken while both its sender and receiver lived."""
        for node in self.nodes.values():
            for (peer, _), numbers in node.rows.items():
                first = numbers[0]
                assert numbers == list(range(first, first + len(numbers))), (node.name, peer)

    def check_complete(self, names: Sequence[str]) -> None:
        """All stop; all that was sent among ``names``, who never died, has arrived."""
        for node in self.nodes.values():
            node.stop()
        for peer in names:
            sent = self.nodes[peer].wait_told("stopped")["sent"]
            for name in names:
                if name != peer:
                    self.nodes[name].wait_rows(peer, sent[name])
                    assert self.nodes[name].rows_of(peer) == [list(range(sent[name]))]
