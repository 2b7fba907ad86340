"""Errors say who is to blame, and survive being moved between processes."""

import copy
import pickle

import pytest

from laminar import errors
from laminar.errors import (
    AdminRefusedError,
    FanOutError,
    KvRefusedError,
    PeerLostError,
    ProtocolError,
)


def test_a_protocol_error_has_a_reason_and_a_detail():
    error = ProtocolError("gap", "frame 3 follows frame 1")
    assert error.reason == "gap"
    assert str(error) == "gap: frame 3 follows frame 1"


def test_a_fan_out_error_names_every_peer_and_why():
    failures = {"a": PeerLostError("a is gone"), "b": PeerLostError("b too")}
    error = FanOutError("barrier 7", failures)
    assert str(error) == "barrier 7 failed for 2 peer(s): a: a is gone; b: b too"
    failures.clear()
    assert set(error.failures) == {"a", "b"}


@pytest.mark.parametrize(
    "error",
    [
        ProtocolError("gap", "frame 3"),
        KvRefusedError(7, "etcd refused: forbidden"),
        AdminRefusedError(404, "node a has no key 'k'", {"error": "node a has no key 'k'"}),
        FanOutError("barrier 7", {"a": PeerLostError("gone")}),
        PeerLostError("gone", peer="a"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("move", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_errors_travel_between_processes(error, move):
    moved = move(error)
    assert type(moved) is type(error)
    assert str(moved) == str(error)
    assert moved.peer == error.peer


def test_who_is_to_blame():
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.UnknownPeerError, LookupError)
    assert issubclass(errors.BatchTooLargeError, ValueError)
    remote = {errors.PeerLostError, errors.PeerRestartedError, errors.ProtocolError}
    assert all(issubclass(error, errors.RemoteError) for error in remote)
    assert not any(issubclass(error, errors.LocalError) for error in remote)
