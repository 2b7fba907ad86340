import os
from pathlib import Path

import pyarrow as pa
import pytest

from laminar.errors import (
    InputError,
    OutputError,
    PeerLostError,
    UnknownPeerError,
    UnsupportedKeyError,
    WorkerError,
)
from laminar.repartition.plan import Layout, Plan, Split
from laminar.repartition.protocol import (
    Assignment,
    Failure,
    Finished,
    Membership,
    NoMoreWork,
    Planned,
    PlanRequest,
    Progress,
    Ready,
    Work,
    decode,
    encode,
    error_of,
    failure_of,
)
from laminar.repartition.spec import JobSpec

SPEC = JobSpec(
    inputs=("a b.parquet", "s3://ü/*"), by=("x", "y"), out=Path("out\n"), compression="zstd"
)
LAYOUT = Layout("schema", ("c",), True, 12.5)
SPLITS = (
    Split("file\nname.parquet", "parquet", (1, 2), 10, 100),
    Split("b.csv", "csv", (0,), None, 7, (("day", "1"), ("who", None)), ("x",)),
)
MESSAGES = [
    Membership("00ff"),
    Membership("00ff", ("127.0.0.1:1",)),
    PlanRequest(SPEC),
    Planned(Plan(LAYOUT, SPLITS, 2, None, 107, ("a note",))),
    Assignment(SPEC, LAYOUT, Path("/x y/ü"), "12ab"),
    Work(SPLITS[0]),
    Work(SPLITS[1]),
    NoMoreWork(),
    Ready("127.0.0.1:1"),
    Progress("reading", 1, 2, 3, 4, 5, 6, 7),
    Failure("input", "no such file"),
    Finished(1, 2, 3, 4, 5, 6),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_are_lines_and_come_back(message):
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == message


@pytest.mark.parametrize(
    "line", [b"", b"hello\n", b"[]\n", b'{"is":"Nope"}\n', b'{"is":"Ready"}\n']
)
def test_anything_else_is_refused(line):
    with pytest.raises(WorkerError, match="not a message"):
        decode(line)


def test_the_key_is_not_shown():
    assert "00ff" not in repr(Membership("00ff"))


@pytest.mark.parametrize("kind", [InputError, OutputError, UnsupportedKeyError])
def test_errors_of_the_user_come_through_as_they_are(kind):
    error = error_of(failure_of(kind("what happened")), "worker 3")
    assert type(error) is kind
    assert str(error) == "what happened"


def test_other_errors_name_the_worker():
    error = error_of(failure_of(PeerLostError("gone")), "worker 3 (pid 7)")
    assert type(error) is WorkerError
    assert str(error) == "worker 3 (pid 7) failed: gone"
    # To a worker whose peer has left by then, it is unknown.
    assert failure_of(UnknownPeerError("no address")).kind == "peer"


def test_a_lack_of_memory_is_said_to_be_one():
    error = error_of(failure_of(pa.ArrowMemoryError("malloc of size 7 failed")), "worker 3 (pid 7)")
    assert str(error).startswith("worker 3 (pid 7) failed: memory ran out (")
    assert str(error).endswith("malloc of size 7 failed")
    assert "memory ran out" in str(error_of(failure_of(MemoryError()), "worker 3"))


def test_paths_travel_as_utf8(monkeypatch):
    ascii_path = Path("ключ".encode().decode("ascii", "surrogateescape"))
    monkeypatch.setattr(os, "fsencode", lambda p: str(p).encode("ascii", "surrogateescape"))
    told = encode(Assignment(SPEC, LAYOUT, ascii_path, "12ab"))
    monkeypatch.undo()
    assert decode(told).folder == Path("ключ")
