"""Who is let in before anything is known of them."""

from hypothesis import given
from hypothesis import strategies as st

from laminar.config import ShuffleConfig
from laminar.shuffle.admission import Admission, TokenBucket


@given(st.floats(0.1, 1000), st.lists(st.floats(0, 10), max_size=200), st.floats(0, 1_000_000))
def test_a_bucket_lets_no_more_through_than_its_rate_and_one_second(rate, pauses, start):
    bucket = TokenBucket(rate, start)
    now, passed = start, 0
    for pause in pauses:
        now += pause
        passed += bucket.take(now)
    assert passed <= max(1, rate) + rate * (now - start) + 1e-6 * (1 + rate * (1 + now))


def test_a_bucket_fills_again():
    bucket = TokenBucket(2.0, 100.0)
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(now) for now in (100.4, 100.5, 100.6, 101.0)] == [False, True, False, True]
    assert [bucket.take(200.0) for _ in range(3)] == [True, True, False]


def test_less_than_one_in_a_second():
    bucket = TokenBucket(0.5, 0.0)
    assert [bucket.take(float(now)) for now in range(6)] == [True, False, True, False, True, False]


def test_each_limit_has_its_reason():
    admission = Admission(
        ShuffleConfig(connections_max=3, handshakes_max=2, handshakes_per_s=4.0), 0.0
    )
    assert [admission.refusal(0.0) for _ in range(3)] == [None, None, "handshakes"]
    admission.introduced()
    assert [admission.refusal(0.0) for _ in range(2)] == [None, "connections"]
    admission.introduced()
    admission.introduced()
    for _ in range(3):
        admission.left()
    assert (admission.connections, admission.handshakes) == (0, 0)
    assert [admission.refusal(0.0) for _ in range(2)] == [None, "rate"]
    assert (admission.connections, admission.handshakes) == (1, 1)
    assert admission.refusal(0.3) is None
