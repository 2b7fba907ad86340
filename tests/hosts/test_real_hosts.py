"""Nodes on hosts of their own, between which wires are cut."""

from contextlib import ExitStack

import pytest

from tests.hosts.cluster import ROUNDS_TO_DEATH, Cluster
from tests.hosts.lan import Lan, missing

pytestmark = [missing, pytest.mark.slow]

LOOPS = {"a": "asyncio", "b": "uvloop", "c": "trio"}


@pytest.fixture
def lan():
    with Lan(*LOOPS) as lan:
        yield lan


@pytest.fixture
def cluster(lan):
    with ExitStack() as stack:
        cluster = Cluster(stack, LOOPS, lan)
        cluster.wait_whole()
        yield cluster


def test_a_host_that_is_cut_off_is_dead_until_it_is_joined_again(cluster, lan):
    lan.unplug("b")
    for node in cluster.others("b"):
        node.wait_told("member", node="b", state="suspect")
        node.wait_members(a="alive", b="dead", c="alive")
    for name in "ac":
        cluster.nodes["b"].wait_told("member", node=name, state="suspect")
        cluster.nodes[name].wait_told("peer", peer="b", state="disconnected")
    cluster.nodes["b"].wait_members(a="dead", b="alive", c="dead")
    cluster.wait_flow("ac")
    cluster.wait_rounds(2 * ROUNDS_TO_DEATH)  # no datagram of before is still on its way
    lan.plug("b")
    cluster.wait_whole()
    assert not any(node.told("error") for node in cluster.nodes.values())
    cluster.check_complete("abc")


def test_a_wire_that_carries_one_way_only_kills_nobody(cluster, lan):
    lan.block("a", "b")
    cluster.nodes["a"].wait_told("peer", peer="b", state="disconnected")
    cluster.wait_rounds(ROUNDS_TO_DEATH)
    assert not any(node.told("member", state="dead") for node in cluster.nodes.values())
    cluster.nodes["c"].wait_members(a="alive", b="alive")
    cluster.wait_flow("bc")
    lan.unblock("a", "b")
    cluster.wait_whole()
    cluster.check_complete("abc")


def test_a_host_that_nobody_hears_is_dead_though_it_hears_all(cluster, lan):
    for name in "ac":
        lan.block("b", name)
    for node in cluster.others("b"):
        node.wait_members(a="alive", b="dead", c="alive")
    for name in "ac":
        lan.unblock("b", name)
    cluster.wait_whole()
    assert not cluster.nodes["b"].told("member", state="dead")
    cluster.check_complete("abc")


def test_senders_follow_a_node_that_restarts_on_another_address(cluster, lan):
    before = lan.ip("b")
    lan.unplug("b")  # so that nobody hears it go
    cluster.nodes["b"].kill()
    lan.renumber("b")
    lan.plug("b")
    assert lan.ip("b") != before
    cluster.start("b")
    for node in cluster.others("b"):
        node.wait_told("error", side="sender", peer="b", kind="PeerRestartedError")
    cluster.wait_whole()
    cluster.check_rows()
    cluster.check_complete("ac")


def test_a_seed_that_restarts_is_found_by_those_it_has_forgotten(cluster, lan):
    cluster.nodes["a"].kill()
    cluster.start("a")
    cluster.wait_whole()
    cluster.check_rows()
    cluster.check_complete("bc")


def test_a_node_that_leaves_is_not_taken_for_dead(cluster, lan):
    assert cluster.nodes["b"].leave() == 0
    for node in cluster.others("b"):
        node.wait_members(b="left")
        assert not node.told("member", node="b", state="suspect")
    cluster.wait_flow("ac")
