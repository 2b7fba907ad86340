"""The limits of keys and values."""

import pytest

from laminar.cluster.kv import KEY_LENGTH_MAX, VALUE_BYTES_MAX, check_key, check_value
from laminar.errors import ConfigError


@pytest.mark.parametrize("key", ["k", "shuffle:addr", "ä", "k" * KEY_LENGTH_MAX])
def test_keys_that_fit(key):
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "1 to 256 characters, got 0"),
        ("k" * (KEY_LENGTH_MAX + 1), "1 to 256 characters, got 257"),
        (b"k", "a KV key is a string, not bytes"),
        ("\udc80", "cannot be encoded as UTF-8"),
    ],
)
def test_keys_that_do_not_fit(key, message):
    with pytest.raises(ConfigError, match=message):
        check_key(key)


@pytest.mark.parametrize("value", ["", "v" * VALUE_BYTES_MAX, "€" * (VALUE_BYTES_MAX // 3)])
def test_values_that_fit(value):
    assert check_value("k", value) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("v" * (VALUE_BYTES_MAX + 1), "key 'k' has 65537 bytes, at most 65536 fit"),
        ("€" * (VALUE_BYTES_MAX // 2), "key 'k' has 98304 bytes"),
        (None, "key 'k' is no string but NoneType"),
        ("\ud800", "cannot be encoded as UTF-8"),
    ],
)
def test_values_that_do_not_fit(value, message):
    with pytest.raises(ConfigError, match=message):
        check_value("k", value)
