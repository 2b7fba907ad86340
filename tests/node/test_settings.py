"""Where the settings of a node come from."""

import base64

import pytest

from laminar.config import EtcdConfig, ShuffleConfig, TlsConfig
from laminar.errors import ConfigError
from laminar.node.config import NodeConfig
from laminar.node.settings import read_config, variables

FILE = """
node = "a"
listen = "10.0.0.1:7946"
seeds = ["seed.example:7946", "10.0.0.2:7946"]
keys_file = "laminar.keys"
state_file = "/var/lib/laminar/a"

[shuffle]
cluster = "production"
window_bytes = 1048576

[shuffle.tls]
certificate = "a.pem"
key = "a-key.pem"
ca = "/etc/ca.pem"

[gossip]
interval_s = 1
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text(FILE)
    return path


def test_a_file_says_all(path):
    config = read_config(path)
    assert config.node == "a"
    assert config.seeds == ("seed.example:7946", "10.0.0.2:7946")
    assert config.shuffle.window_bytes == 1 << 20
    assert config.shuffle.cluster == "production"
    assert config.gossip.interval_s == 1.0


def test_files_are_looked_for_beside_the_file_that_names_them(path):
    config = read_config(path)
    assert config.keys_file == str(path.parent / "laminar.keys")
    assert config.state_file == "/var/lib/laminar/a"
    assert config.shuffle.tls == TlsConfig(
        str(path.parent / "a.pem"), str(path.parent / "a-key.pem"), "/etc/ca.pem"
    )


def test_the_environment_beats_the_file_and_the_caller_beats_both(path):
    environ = {
        "LAMINAR_LISTEN": "10.0.0.9:1",
        "LAMINAR_SEEDS": "x:1, y:2",
        "LAMINAR_SHUFFLE_CLUSTER": "test",
        "LAMINAR_SHUFFLE_TLS_CA": "ca2.pem",
        "HOME": "/root",
        "LAMINAR_UNRELATED": "1",
    }
    overrides = {"listen": "10.0.0.8:1", "shuffle.allow_unauthenticated": True}
    config = read_config(path, environ=environ, overrides=overrides)
    assert config.listen == "10.0.0.8:1"
    assert config.seeds == ("x:1", "y:2")
    assert config.shuffle.cluster == "test"
    assert config.shuffle.window_bytes == 1 << 20
    assert config.shuffle.tls is not None
    assert config.shuffle.tls.ca == "ca2.pem"
    assert config.shuffle.allow_unauthenticated


def test_the_environment_alone_is_enough():
    key = bytes(range(32))
    environ = {
        "LAMINAR_NODE": "17",
        "LAMINAR_PEERS": "b=h:1,c=[::1]:2",
        "LAMINAR_SHUFFLE_KEYS": base64.b64encode(key).decode(),
        "LAMINAR_SHUFFLE_WINDOW_BYTES": "65536",
        "LAMINAR_SHUFFLE_CLOSE_TIMEOUT_S": "0.5",
        "LAMINAR_SHUFFLE_ALLOW_UNAUTHENTICATED": "false",
        "LAMINAR_SHUFFLE_COMPRESSION": "lz4",
    }
    assert read_config(environ=environ) == NodeConfig(
        "17",
        peers={"b": "h:1", "c": "[::1]:2"},
        shuffle=ShuffleConfig(
            keys=(key,), window_bytes=65536, close_timeout_s=0.5, compression="lz4"
        ),
    )


def test_a_section_that_is_off_is_on_once_it_is_named():
    assert read_config(overrides={"node": "a"}).etcd is None
    environ = {"LAMINAR_NODE": "a", "LAMINAR_ETCD_ENDPOINTS": "http://e:1"}
    assert read_config(environ=environ).etcd == EtcdConfig(endpoints=("http://e:1",))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("node = ", "not TOML"),
        ('listen = "h:1"', "needs an id"),
        ("node = 1", "Expected `str`, got `int`"),
        ('node = "a"\nseed = ["h:1"]', "no setting 'seed'; did you mean 'seeds'"),
        ('node = "a"\n[gossip]\ninterval = 1', "no setting 'gossip.interval'; did you mean"),
        ('node = "a"\n[shuffle.tls]\ncert = "x"', "no setting 'shuffle.tls.cert'"),
        ('node = "a"\n[shuffle.tls]\nkey = "x"', "missing required field"),
        ('node = "a"\nshuffle = 1', "Expected `object`, got `int`"),
        ('node = "a"\n[shuffle]\ntls = "x"', "shuffle.tls"),
        ('node = "a"\n[shuffle]\nwindow_bytes = "1"', r"Expected `int`, got `str`.*window_bytes"),
        ('node = "a"\n[shuffle]\nwindow_bytes = 0', "window_bytes must be greater than 0"),
        ('node = "a"\n[shuffle]\ncompression = "gzip"', "compression"),
        ('node = "a"\nseeds = ["h"]', "address"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(tmp_path, text, says):
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as raised:
        read_config(path)
    if "needs an id" not in says:
        assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"LAMINAR_SHUFFLE_WINDOW_BYTES": "many"}, "LAMINAR_SHUFFLE_WINDOW_BYTES: Expected `int`"),
        ({"LAMINAR_SHUFFLE_WINDOW": "1"}, "did you mean LAMINAR_SHUFFLE_WINDOW_BYTES"),
        ({"LAMINAR_LISTN": "h:1"}, "did you mean LAMINAR_LISTEN"),
        ({"LAMINAR_SHUFFLE_KEYS": "?"}, "LAMINAR_SHUFFLE_KEYS"),
    ],
)
def test_what_is_wrong_in_the_environment_is_said_by_name(environ, says):
    with pytest.raises(ConfigError, match=says):
        read_config(environ={"LAMINAR_NODE": "a"} | environ)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_config(tmp_path / "none.toml")


def test_every_setting_has_a_variable_of_its_own():
    assert len(variables()) == len(set(variables())) > 60
