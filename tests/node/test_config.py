"""The settings of a node."""

import pytest

from laminar.config import EtcdConfig, GossipConfig, ShuffleConfig
from laminar.errors import ConfigError
from laminar.node.config import NodeConfig


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"node": "a b"}, "printable"),
        ({"listen": "somewhere"}, "address"),
        ({"listen": "0.0.0.0:7946"}, "advertise"),
        ({"advertise": "nowhere"}, "address"),
        ({"seeds": ("b",)}, "address"),
        ({"seeds": "h:1"}, "tuple of addresses"),
        ({"peers": {"b": "c"}}, "address"),
        ({"peers": {"b c": "h:1"}}, "printable"),
        ({"seeds": ("h:1",), "etcd": EtcdConfig()}, "seeds and etcd"),
        ({"shuffle": ShuffleConfig(keepalive_interval_s=4.5)}, r"must be at least .* \(9\.0\)"),
        ({"keys_file": "k", "shuffle": ShuffleConfig(keys=(bytes(16),))}, "not from both"),
    ],
)
def test_what_cannot_be_is_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        NodeConfig(**{"node": "a"} | settings)


def test_every_address_may_be_listened_at_if_others_are_told_one():
    assert NodeConfig("a", "0.0.0.0:7946", advertise="h:7946").advertise == "h:7946"


def test_idle_connections_say_nothing_of_members_where_nobody_gossips():
    slow = ShuffleConfig(keepalive_interval_s=10.0)
    assert NodeConfig("a", peers={"b": "h:1"}, shuffle=slow).shuffle is slow
    assert NodeConfig("a", etcd=EtcdConfig(), shuffle=slow).shuffle is slow
    patient = GossipConfig(direct_evidence_s=20.0)
    assert NodeConfig("a", shuffle=slow, gossip=patient).gossip is patient
