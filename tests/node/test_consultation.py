import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.errors import ProtocolError
from laminar.node.consultation import Answer, Ask, decode_answer, decode_ask, encode

ANSWER = Answer("n", "greeted", "", "", 1.5, "0.1.0")


def test_what_is_written_is_read():
    ask = Ask("10.0.0.1:7946", "abc")
    assert decode_ask(encode(ask)) == ask
    assert decode_answer(encode(ANSWER)) == ANSWER


@pytest.mark.parametrize("text", ["", "{}", '{"addr":"nowhere","nonce":""}', "[" * 100_000])
def test_nonsense_is_refused(text):
    with pytest.raises(ProtocolError):
        decode_ask(text)


@given(st.text())
def test_anything_else_is_refused(text):
    for decode in (decode_ask, decode_answer):
        with pytest.raises(ProtocolError):
            decode(text)
