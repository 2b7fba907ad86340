"""Keys come, are used, and go, and are never shown."""

import pytest

from laminar.cluster.keyring import Keyring, key_id
from laminar.config import KEYS_MAX
from laminar.errors import ConfigError

OLD, NEW = b"o" * 32, b"n" * 32


def test_the_first_key_seals_and_all_open():
    ring = Keyring([OLD, NEW])
    assert ring.ids == (key_id(OLD), key_id(NEW))
    assert ring.primary == key_id(OLD)
    assert ring.primary_key == OLD
    assert ring.key(key_id(NEW)) == NEW
    assert ring.key(b"????") is None


def test_a_key_is_replaced_in_three_steps():
    ring = Keyring([OLD])
    new = ring.install(NEW)
    assert ring.primary_key == OLD
    ring.use(new)
    assert ring.primary_key == NEW
    assert ring.key(key_id(OLD)) == OLD
    ring.remove(key_id(OLD))
    assert ring.key(key_id(OLD)) is None
    assert ring.ids == (new,)


def test_installing_twice_changes_nothing():
    ring = Keyring([OLD, NEW])
    assert ring.install(OLD) == key_id(OLD)
    assert ring.ids == (key_id(OLD), key_id(NEW))


@pytest.mark.parametrize("key", [b"", b"x" * 15, b"x" * 65, "x" * 32, bytearray(32), None])
def test_no_weak_key_is_taken_or_shown(key):
    with pytest.raises(ConfigError, match="16 to 64 random bytes") as failure:
        Keyring([OLD]).install(key)
    assert "xxx" not in str(failure.value)


def test_a_ring_is_never_empty_nor_without_its_primary():
    with pytest.raises(ConfigError, match="at least one key"):
        Keyring([])
    ring = Keyring([OLD, NEW])
    with pytest.raises(ConfigError, match="in use"):
        ring.remove(key_id(OLD))
    assert ring.primary_key == OLD


def test_what_is_not_there_is_neither_used_nor_removed():
    ring = Keyring([OLD])
    for change in (ring.use, ring.remove):
        with pytest.raises(ConfigError, match=f"no key {key_id(NEW).hex()}"):
            change(key_id(NEW))
    assert ring.primary_key == OLD


def test_a_ring_is_bounded():
    ring = Keyring([bytes([number]) * 32 for number in range(KEYS_MAX)])
    ring.install(bytes(32))  # present already
    with pytest.raises(ConfigError, match="at most 8 keys"):
        ring.install(NEW)


def test_two_keys_with_one_id_do_not_replace_each_other(monkeypatch):
    monkeypatch.setattr("laminar.cluster.keyring.key_id", lambda key: b"same")
    ring = Keyring([OLD])
    with pytest.raises(ConfigError, match="another key has the id"):
        ring.install(NEW)
    assert ring.primary_key == OLD


def test_a_ring_does_not_print_its_keys():
    shown = repr(Keyring([OLD, NEW]))
    assert key_id(OLD).hex() in shown
    assert "ooo" not in shown
    assert OLD.hex() not in shown
