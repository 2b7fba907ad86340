"""Messages are values with a default channel."""

import pyarrow as pa
import pytest

from laminar.model import CheckpointBarrier
from laminar.shuffle.messages import DEFAULT_CHANNEL, Barrier, Data, End, Watermark

BATCH = pa.RecordBatch.from_pydict({"x": [1]})


def test_the_default_channel():
    messages = [Data(BATCH), Barrier(CheckpointBarrier(1)), Watermark(1), End()]
    assert {message.channel for message in messages} == {DEFAULT_CHANNEL}


def test_they_compare_by_value():
    assert Data(BATCH, "c", 1) == Data(pa.RecordBatch.from_pydict({"x": [1]}), "c", 1)
    assert Data(BATCH, "c", 1) != Data(BATCH, "c", 2)
    assert Watermark(1) != Watermark(2)
    assert len({Barrier(CheckpointBarrier(1)), Barrier(CheckpointBarrier(1)), End("a")}) == 2


@pytest.mark.parametrize("message", [End(), Watermark(1), Data(BATCH)])
def test_a_misspelt_field_is_an_error(message):
    with pytest.raises(AttributeError):
        message.chanel = "x"
