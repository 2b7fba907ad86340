"""Node ids and barriers."""

import dataclasses
import string
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from laminar.errors import ConfigError
from laminar.model import NODE_ID_LENGTH_MAX, BarrierFlags, CheckpointBarrier, node_id, node_uri

VISIBLE = string.ascii_letters + string.digits + string.punctuation


@given(st.text(VISIBLE, min_size=1, max_size=NODE_ID_LENGTH_MAX))
@example("a")
@example("!" * NODE_ID_LENGTH_MAX)
@example("~")
def test_a_node_id_is_kept_as_it_is(text):
    assert node_id(text) == text


@pytest.mark.parametrize("text", ["", "x" * (NODE_ID_LENGTH_MAX + 1)])
def test_length(text):
    with pytest.raises(ConfigError, match=f"1 to 128 characters, got {len(text)}"):
        node_id(text)


@given(st.text(VISIBLE), st.text(min_size=1, max_size=1), st.text(VISIBLE))
@example("a", " ", "b")
@example("", "\x7f", "")
@example("", "\n", "")
@example("a", "\0", "")
@example("", "é", "")
@example("", "\ud800", "")
def test_anything_but_visible_ascii_is_refused(before, odd, after):
    text = (before[:60] + odd + after)[:NODE_ID_LENGTH_MAX]
    if odd in VISIBLE:
        assert node_id(text) == text
    else:
        with pytest.raises(ConfigError, match="printable ASCII"):
            node_id(text)


@pytest.mark.parametrize("thing", [None, 1, b"a", ["a"]])
def test_a_node_id_is_a_string(thing):
    with pytest.raises(ConfigError, match="is a string"):
        node_id(thing)


def test_config_errors_are_value_errors():
    with pytest.raises(ValueError, match="characters"):
        node_id("")


def test_barriers_are_values():
    barrier = CheckpointBarrier(7)
    assert (barrier.checkpoint_id, barrier.epoch, barrier.flags) == (7, 0, BarrierFlags.NONE)
    assert barrier == CheckpointBarrier(7, 0, BarrierFlags(0))
    assert len({barrier, CheckpointBarrier(7), CheckpointBarrier(8)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        barrier.epoch = 1


def test_flags_combine():
    both = BarrierFlags.SAVEPOINT | BarrierFlags.STOP
    assert int(both) == 3
    assert BarrierFlags.STOP in both


def test_a_certificate_names_a_node_in_one_way():
    assert node_uri("prod", "b-1.example") == "laminar://prod/b-1.example"
    assert node_uri("a/b c", "x/../y?") == "laminar://a%2Fb%20c/x%2F..%2Fy%3F"
    assert node_uri("a/b", "c") != node_uri("a", "b/c")


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_node_uri_can_be_taken_apart(cluster, node):
    _, _, *parts = node_uri(cluster, node).split("/")
    assert [unquote(part) for part in parts] == [cluster, node]
