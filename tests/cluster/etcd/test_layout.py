"""Where keys are in etcd, and whose they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster.etcd.layout import Layout

LAYOUT = Layout("/laminar")
NODES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)


@given(NODES, KEYS)
def test_every_key_has_a_place_of_its_own(node, key):
    path = LAYOUT.key(node, key)
    assert LAYOUT.cell(path) == (node, key)
    start, end = LAYOUT.everything
    assert start < path < end


@pytest.mark.parametrize(
    ("node", "key", "path"),
    [
        ("node-7.rack:1", "shuffle:addr", b"/laminar/node-7.rack:1/shuffle:addr"),
        ("a/b", "c/d", b"/laminar/a%2Fb/c/d"),
        ("100%", "ä", "/laminar/100%25/ä".encode()),
    ],
)
def test_people_can_read_it(node, key, path):
    assert LAYOUT.key(node, key) == path


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/laminar",
        b"/laminar/",
        b"/laminar/a",
        b"/laminar/a/",
        b"/laminar//k",
        b"/laminar/a b/k",
        b"/laminar/%61/k",
        b"/laminar/a%2fb/k",
        b"/laminar/\xff/k",
        b"/laminar/a/\xff",
        b"/laminar/a/" + b"k" * 257,
        b"/laminarium/a/k",
        b"a/k",
    ],
)
def test_what_no_node_writes_is_nobodys(path):
    assert LAYOUT.cell(path) is None


@given(st.binary(max_size=40))
def test_any_key_of_etcd_is_nobodys_or_exactly_one(rest):
    path = b"/laminar/" + rest
    cell = LAYOUT.cell(path)
    assert cell is None or LAYOUT.key(*cell) == path
