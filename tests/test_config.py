"""Every limit is checked once, where it is set."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.config import DatagramConfig, EtcdConfig, GossipConfig, ShuffleConfig, TlsConfig
from laminar.errors import ConfigError

LIMITS = [
    field.name
    for field in dataclasses.fields(ShuffleConfig)
    if field.name
    not in {
        "cluster",
        "keys",
        "tls",
        "allow_unauthenticated",
        "compression",
        "schema_change",
        "validate",
    }
]


def test_the_defaults_are_valid_and_frozen():
    config = ShuffleConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.window_bytes = 1


def test_every_limit_has_its_unit_in_its_name():
    assert LIMITS
    assert all(name.endswith(("_bytes", "_max", "_s")) for name in LIMITS)


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_positive(name, value):
    with pytest.raises(ConfigError, match=name):
        ShuffleConfig(**{name: value})


@pytest.mark.parametrize("name", [name for name in LIMITS if name.endswith("_s")])
def test_a_time_is_a_number(name):
    with pytest.raises(ConfigError, match=name):
        ShuffleConfig(**{name: math.nan})


@given(st.integers(1, 2**31), st.integers(1, 2**31), st.integers(1, 2**31))
def test_frames_are_ordered_by_size(coalesce, target, largest):
    sizes = {
        "coalesce_bytes": coalesce,
        "target_frame_bytes": target,
        "max_frame_bytes": largest,
    }
    if coalesce <= target <= largest < 2**31:
        assert ShuffleConfig(**sizes).max_frame_bytes == largest
    else:
        with pytest.raises(ConfigError):
            ShuffleConfig(**sizes)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_frame_bytes": 2**31},  # Arrow and the kernel count in 32 bits
        {"channels_max": 1025},  # a greeting names them all
        {"backoff_initial_s": 3.0, "backoff_max_s": 2.0},
        {"compression": "gzip"},
        {"compression": ""},
        {"cluster": ""},
        {"cluster": "x" * 129},
        {"validate": True},
        {"validate": "values"},
        {"keys": b"one key, not in a tuple"},
        {"keys": ["a list of" + "x" * 16]},
        {"keys": ("text, not bytes" + "x" * 16,)},
        {"keys": (bytearray(32),)},
        {"keys": (b"fifteen bytes..",)},
        {"keys": (bytes(32), bytes(32))},
        {"keys": tuple(bytes([number]) * 32 for number in range(9))},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        ShuffleConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_frame_bytes": 2**31 - 1},
        {"channels_max": 1024},
        {"backoff_initial_s": 2.0, "backoff_max_s": 2.0},
        {"compression": "lz4"},
        {"compression": "zstd"},
        {"cluster": "x" * 128},
        {"validate": "full"},
        {"validate": "layout"},
        {"keys": (b"sixteen bytes...",)},
        {"keys": tuple(bytes([number]) * 32 for number in range(8))},
        {"tls": TlsConfig("cert.pem", "key.pem", "ca.pem")},
        {"reconnect_timeout_s": math.inf},
        {"coalesce_bytes": 1, "target_frame_bytes": 1, "max_frame_bytes": 1},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_accepted(settings):
    config = ShuffleConfig(**settings)
    assert {name: getattr(config, name) for name in settings} == settings


SECRET = b"hush hush hush!!"


def test_a_key_is_never_shown():
    assert "hush" not in repr(ShuffleConfig(keys=(SECRET,)))
    for keys in ((SECRET, SECRET), SECRET, (SECRET[:15],), (SECRET.decode(),)):
        with pytest.raises(ConfigError, match="keys") as caught:
            ShuffleConfig(keys=keys)
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({}, True),
        ({"keys": (SECRET,)}, False),
        ({"tls": TlsConfig("cert.pem", "key.pem", "ca.pem")}, False),
        ({"keys": (SECRET,), "validate": "full"}, True),
        ({"validate": "layout"}, False),
    ],
    ids=str,
)
def test_values_are_checked_unless_peers_are_known(settings, values):
    assert ShuffleConfig(**settings).validates_values is values


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"datagram_bytes_max": 511}, "between 512 and 65507"),
        ({"datagram_bytes_max": 65508}, "between 512 and 65507"),
        ({"reordered_max": 65537}, "reordered_max must be at most 65536"),
        ({"amplification_max": 0}, "amplification_max must be greater than 0"),
        ({"cookie_lifetime_s": -1.0}, "cookie_lifetime_s must be greater than 0"),
    ],
)
def test_limits_of_datagrams_are_checked(settings, message):
    DatagramConfig()
    with pytest.raises(ConfigError, match=message):
        DatagramConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"endpoints": ()}, "a tuple of URLs"),
        ({"endpoints": "http://one:2379"}, "a tuple of URLs"),
        ({"endpoints": ("one:2379",)}, "starts with http"),
        ({"prefix": ""}, "prefix has 1 to 128"),
        ({"prefix": "/laminar/"}, "does not end with '/'"),
        ({"lease_s": 0}, "lease_s must be greater than 0"),
        ({"page_keys_max": 0}, "page_keys_max must be greater than 0"),
        ({"backoff_initial_s": 3.0}, "must not exceed backoff_max_s"),
    ],
)
def test_settings_of_etcd_are_checked(settings, message):
    EtcdConfig()
    with pytest.raises(ConfigError, match=message):
        EtcdConfig(**settings)


GOSSIP_LIMITS = [
    field.name for field in dataclasses.fields(GossipConfig) if field.name != "priority_prefixes"
]


@pytest.mark.parametrize("name", GOSSIP_LIMITS)
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_gossip_limits_are_greater_than_zero(name, value):
    with pytest.raises(ConfigError, match=name):
        GossipConfig(**{name: value})


def test_a_threshold_that_no_silence_reaches_is_refused():
    with pytest.raises(ConfigError, match="at most 100"):
        GossipConfig(phi_threshold=101)
