"""A worker's end, in a process of its own, with a job's process played by the test."""

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from laminar.errors import InputError, PeerLostError, UnknownPeerError
from laminar.repartition.crew import environment
from laminar.repartition.protocol import (
    Failure,
    Membership,
    PlanRequest,
    Ready,
    decode,
    encode,
)
from laminar.repartition.spec import JobSpec
from laminar.repartition.worker import root_cause

BROKEN = """
import sys
import laminar.repartition.worker as worker
def make_plan(spec):
    raise {error}
worker.make_plan = make_plan
sys.argv = ["worker", "0", "1", str(64 << 20), "00ff"]
worker.main()
"""

REQUEST = PlanRequest(JobSpec(inputs=("a.parquet",), by=("id",), out=Path("out")))


def end_of_worker(error):
    """What a worker says and how it ends when planning raises ``error``."""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", BROKEN.format(error=error)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        # Its standard input stays open: a thread of the worker is reading it when it ends.
        process.stdin.write(encode(Membership("00" * 16)) + encode(REQUEST))
        process.stdin.flush()
        said = [decode(line) for line in process.stdout]
        last_words = process.stderr.read().decode()
        return process.wait(20), said, last_words


def test_a_lack_of_memory_is_reported():
    code, said, _ = end_of_worker("MemoryError('malloc of size 7 failed')")
    assert code == 1
    ready, failure = said
    assert isinstance(ready, Ready)
    assert isinstance(failure, Failure)
    assert "memory ran out" in failure.message


@pytest.mark.parametrize("error", ["ZeroDivisionError('a bug')", "UnicodeError('a bug')"])
def test_the_last_word_about_a_bug_is_the_bug(error):
    code, said, last_words = end_of_worker(error)
    assert (code, [type(message) for message in said]) == (1, [Ready])
    assert last_words.splitlines()[-1].endswith("Error: a bug")


def test_a_broken_queue_explains_less_than_what_broke_it():
    lost, broken = PeerLostError("gone"), anyio.BrokenResourceError()
    for leaves in ([broken, lost], [lost, broken]):
        assert root_cause(ExceptionGroup("", leaves)) is lost
    unreadable, unknown = InputError("no Parquet"), UnknownPeerError("it has left")
    for leaves in ([unknown, unreadable], [unreadable, unknown]):
        assert root_cause(ExceptionGroup("", leaves)) is unreadable
    bug = ZeroDivisionError()
    assert root_cause(ExceptionGroup("", [broken, ExceptionGroup("", [lost, bug])])) is bug
