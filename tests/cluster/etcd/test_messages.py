"""Reading what etcd's gateway answers, and what it should not answer."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laminar.cluster.etcd.layout import Layout
from laminar.cluster.etcd.messages import Change, News, Page, integer, news, page, parse, text
from laminar.errors import KvRefusedError, ProtocolError

LAYOUT = Layout("/l")
HEADER = {"cluster_id": "7", "revision": "12"}


def entry(path, value=b"", revision=5):
    told = {"key": text(path), "mod_revision": str(revision)}
    return told | ({"value": text(value)} if value else {})


def test_a_page():
    message = {
        "header": HEADER,
        "more": True,
        "kvs": [
            entry(b"/l/a/k", b"1"),
            entry(b"/l/x"),
            entry(b"/l/b/e"),
            entry(b"/l/b/z", b"\xff"),
        ],
    }
    changes = (Change(("a", "k"), "1", 5), Change(("b", "e"), "", 5))
    assert page(message, LAYOUT) == Page(7, 12, changes, b"/l/b/z\0", strange=2)


def test_what_is_left_out_has_its_default():
    assert page({"header": {"cluster_id": "7"}}, LAYOUT) == Page(7, 0, (), None, 0)
    wanted = News(0, 0, created=False, ended=False, partial=False, changes=(), strange=0)
    assert news({}, LAYOUT) == wanted


def test_news_name_the_revision_up_to_which_all_is_told():
    events = [
        {"kv": entry(b"/l/a/k", b"1", 8)},
        {"type": "DELETE", "kv": entry(b"/l/a/gone", revision=9)},
        {"kv": entry(b"/l/strange", b"1", 10)},
    ]
    told = news({"result": {"header": HEADER, "events": events, "fragment": True}}, LAYOUT)
    changes = (Change(("a", "k"), "1", 8), Change(("a", "gone"), None, 9))
    assert (told.changes, told.revision, told.partial, told.strange) == (changes, 10, True, 1)
    assert news({"result": {"header": HEADER}}, LAYOUT).revision == 12
    ended = news({"result": {"header": HEADER, "canceled": True, "compact_revision": "3"}}, LAYOUT)
    assert ended.ended


@pytest.mark.parametrize(
    ("answer", "code", "detail"),
    [
        ({"error": "no lease", "message": "no lease", "code": 5}, 5, "etcd refused: no lease"),
        ({"error": {"grpc_code": 14, "message": "gone"}}, 14, "etcd refused: gone"),
        ({"error": "odd", "code": "5"}, 2, "etcd refused: odd"),
    ],
)
def test_errors_of_etcd(answer, code, detail):
    with pytest.raises(KvRefusedError, match=detail) as failure:
        parse(json.dumps(answer).encode())
    assert failure.value.code == code


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000])
def test_no_object_is_no_answer(data):
    with pytest.raises(ProtocolError, match="unexpected form"):
        parse(data)


@pytest.mark.parametrize("value", [None, 1.5, "x", [], {}, ""])
def test_a_number_is_a_number(value):
    with pytest.raises(ProtocolError, match="revision is no integer"):
        integer({"revision": value}, "revision")


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("L2wvYS9r")
NAMES = st.sampled_from(
    ["header", "kvs", "events", "kv", "key", "value", "mod_revision", "type", "result"]
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=50)
@given(st.dictionaries(NAMES, TREES, max_size=6))
def test_any_object_is_read_or_refused(message):
    for read in (page, news):
        try:
            read(message, LAYOUT)
        except ProtocolError as error:
            assert error.reason == "etcd"  # noqa: PT017
