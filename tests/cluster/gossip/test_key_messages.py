"""Orders and reports come back as they were, and nothing else is read."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster.gossip.key_messages import (
    NUMBER_MAX,
    TAG_BITS,
    TROUBLE_LENGTH_MAX,
    Claim,
    KeyOrder,
    KeyReport,
    Stage,
    decode_order,
    decode_report,
)
from laminar.cluster.keyring import key_id
from laminar.errors import ProtocolError

KEY = b"k" * 32
IDS = st.binary(min_size=4, max_size=4)
CLAIMS = st.builds(Claim, st.integers(0, NUMBER_MAX), st.integers(0, 2**TAG_BITS - 1))
ENTRY_BYTES_MIN = 257
"""What always fits a datagram: the longest key, and a byte."""


@given(CLAIMS, st.sampled_from(list(Stage)[1:]), st.binary(min_size=16, max_size=64), st.booleans())
def test_an_order_with_a_key_comes_back(claim, stage, key, skip_dead):
    order = KeyOrder(claim, stage, key_id(key), key, None, skip_dead)
    text = order.encode()
    assert decode_order(text) == order
    assert len("gossip:keys:order") + len(text) <= ENTRY_BYTES_MIN
    assert key.hex() not in repr(order)


@given(CLAIMS, st.sampled_from(list(Stage)[1:]), st.lists(IDS, min_size=2, max_size=2, unique=True))
def test_an_order_without_a_key_comes_back(claim, stage, ids):
    order = KeyOrder(claim, stage, ids[0], None, ids[1], skip_dead=False)
    assert decode_order(order.encode()) == order


@given(
    CLAIMS,
    st.sampled_from(Stage),
    st.lists(IDS, min_size=1, max_size=8, unique=True),
    st.data(),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=80).map(str.strip),
)
def test_a_report_comes_back(claim, stage, ids, data, trouble):
    primary = data.draw(st.sampled_from(ids))
    report = KeyReport(claim, stage, primary, tuple(ids), trouble)
    text = report.encode()
    told = decode_report(text)
    assert len("gossip:keys") + len(text) <= ENTRY_BYTES_MIN
    assert told == KeyReport(claim, stage, primary, told.ids, trouble)
    assert told.ids[0] == primary
    assert sorted(told.ids) == sorted(ids)


def test_trouble_is_told_in_a_few_printable_characters():
    report = KeyReport(Claim(0, 0), Stage.NONE, b"1234", (b"1234",), "\x1b[2J – " + "x" * 200)
    told = decode_report(report.encode()).trouble
    assert told.startswith("?[2J ? xxx")
    assert len(told) == TROUBLE_LENGTH_MAX


ORDER = KeyOrder(Claim(7, 9), Stage.USE, key_id(KEY), KEY, None, skip_dead=True).encode()
REPORT = KeyReport(Claim(7, 9), Stage.USE, b"1234", (b"1234", b"5678"), "no room").encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        ORDER + " ",
        " " + ORDER,
        ORDER.replace(" 2 ", " 4 "),
        ORDER.replace(" live ", " some "),
        ORDER.replace("7 ", "-7 ", 1),
        ORDER.replace("7 ", "٧ ", 1),
        ORDER.replace("7 ", "7" * 19 + " ", 1),
        ORDER.replace("000000000009", "00000000000G"),
        ORDER[:-1],
        ORDER[:-34],
        ORDER + "00" * 33,
        ORDER.upper(),
        REPORT,
    ],
)
def test_an_order_in_another_form_is_refused(text):
    with pytest.raises(ProtocolError, match="not in its form") as caught:
        decode_order(text)
    assert caught.value.reason == "keys"
    assert KEY.hex() not in str(caught.value)


def test_an_order_that_contradicts_itself_is_refused():
    other = KeyOrder(Claim(7, 9), Stage.USE, b"1234", KEY, None, skip_dead=True)
    with pytest.raises(ProtocolError, match="names another key"):
        decode_order(other.encode())
    same = KeyOrder(Claim(7, 9), Stage.USE, b"1234", None, b"1234", skip_dead=True)
    with pytest.raises(ProtocolError, match="removes the key that it brings"):
        decode_order(same.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        REPORT + "\n",
        REPORT + "\x1b[2J",
        REPORT + "x" * 80,
        REPORT.replace(" 2 ", " 4 "),
        REPORT.replace(",", ", "),
        REPORT.replace("no room", ""),
        "7 0000000000000009 2 " + ",".join(["00000000"] * 9),
    ],
)
def test_a_report_in_another_form_is_refused(text):
    with pytest.raises(ProtocolError, match="not in its form"):
        decode_report(text)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text):
    for decode in (decode_order, decode_report):
        with suppress(ProtocolError):
            assert decode(text).encode()
