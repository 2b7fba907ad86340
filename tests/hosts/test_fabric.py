"""Four nodes, one seed, rows without end; one of them is killed and comes back elsewhere."""

from contextlib import ExitStack

import pytest

from tests.hosts.cluster import Cluster

LOOPS = {"a": "asyncio", "b": "uvloop", "c": "trio", "d": "asyncio"}


@pytest.mark.slow
def test_a_killed_node_that_comes_back_elsewhere_is_told_and_sent_to_again():
    with ExitStack() as stack:
        cluster = Cluster(stack, LOOPS)
        cluster.wait_whole()
        *survivors, killed = cluster.nodes.values()
        killed.kill()
        cluster.wait_flow("abc")
        again = cluster.start("d")
        for node in survivors:
            for side in ("sender", "receiver"):
                node.wait_told("error", side=side)
        cluster.wait_whole()
        assert again.told("listening")[0]["addr"] != killed.told("listening")[0]["addr"]
        cluster.check_rows()
        cluster.check_complete("abc")
        # Each operator was told once by each of its two ends, and nothing else.
        for node in survivors:
            told = [(error["peer"], error["kind"]) for error in node.told("error")]
            assert told == [("d", "PeerRestartedError")] * 2
        assert not again.told("error")
