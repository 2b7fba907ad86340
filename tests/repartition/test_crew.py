import signal
import subprocess
import sys
from contextlib import closing

import anyio
import psutil
import pytest

from laminar.errors import WorkerError
from laminar.repartition import crew as crew_module
from laminar.repartition.crew import Member, environment, hire
from laminar.repartition.protocol import NoMoreWork, Ready
from laminar.shuffle import control
from laminar.shuffle.frames import encode_preface
from tests.wiring import Raw, hello

LIMIT = 64 << 20


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_workers_report_where_they_listen_and_leave_when_let_go():
    async with hire(2, LIMIT, "00ff") as crew:
        addresses = []
        for number in range(2):
            member, message = await crew.news.receive()
            assert isinstance(message, Ready)
            assert member.number == number
            addresses.append(message.address)
            member.finished = True
            if not number:
                await crew.admit_others(message.address)
        assert len(set(addresses)) == 2
        await crew.dismiss()
        assert [member.process.returncode for member in crew.members] == [0, 0]


async def test_the_key_of_a_run_is_for_its_workers_only(monkeypatch):
    """Others on this machine can read command lines, and some can read environments."""
    monkeypatch.setattr(
        crew_module.secrets, "token_hex", lambda size: ("5ec2e7" * size)[: 2 * size]
    )
    async with hire(1, LIMIT, "00ff") as crew:
        member, ready = await crew.news.receive()
        process = psutil.Process(member.process.pid)
        assert "5ec2e7" not in " ".join(process.cmdline())
        assert "5ec2e7" not in repr(process.environ())
        stranger = await Raw.dial(ready.address)
        with closing(stranger.stream):
            await stranger.send(encode_preface(), hello("worker-1", cluster="laminar-shuffle-00ff"))
            (goodbye,) = await stranger.frames()
        assert "offers no key" in control.decode_close(goodbye.body_bytes()).reason


async def test_leaving_the_block_leaves_no_process():
    async with hire(2, LIMIT, "00ff") as crew:
        members = crew.members
    assert [member.process.returncode for member in members] == [-signal.SIGKILL] * 2


async def test_the_last_word_of_a_dead_worker_is_passed_on():
    async with await anyio.open_process(
        [sys.executable, "-c", "import sys; sys.exit('the disk is on fire')"],
        stdin=subprocess.PIPE,
    ) as process:
        send, receive = anyio.create_memory_object_stream(0)
        async with send, receive:
            with pytest.raises(ExceptionGroup) as group:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(Member(4, process).listen, send)
    (error,) = group.value.exceptions
    assert isinstance(error, WorkerError)
    text = f"worker 4 (pid {process.pid}) exited with code 1; it last said: the disk is on fire"
    assert str(error) == text


async def test_the_likely_cause_of_a_death_is_named():
    code = "import sys, os; print(*sys.argv[1:], sep='\\n', file=sys.stderr); os.abort()"
    said = ["Fatal Python error: too bad", "Current thread:", "  <no Python frame>"]
    async with await anyio.open_process(
        [sys.executable, "-c", code, *said], stdin=subprocess.PIPE
    ) as process:
        send, receive = anyio.create_memory_object_stream(0)
        async with send, receive:
            with pytest.raises(WorkerError) as died:
                await _raise_alone(Member(0, process).listen, send)
    assert "was killed by SIGABRT (most likely memory ran out" in str(died.value)
    assert str(died.value).endswith("; it last said: Fatal Python error: too bad")


async def _raise_alone(function, *arguments):
    try:
        await function(*arguments)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def test_telling_a_dead_worker_says_so():
    async with await anyio.open_process([sys.executable, "-c", ""]) as process:
        await process.wait()
        with pytest.raises(WorkerError, match="exited with code 0"):
            await _tell_until_noticed(Member(0, process))


async def _tell_until_noticed(member):
    for _ in range(10_000):
        await member.tell(NoMoreWork())


def test_workers_import_this_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")
    given = environment()
    assert given["PYTHONPATH"].endswith("/somewhere")
    assert given["ARROW_DEFAULT_MEMORY_POOL"] == "system"
    found = subprocess.run(
        [sys.executable, "-P", "-c", "import laminar; print(laminar.__file__)"],
        env=given,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    import laminar

    assert found.stdout.strip() == laminar.__file__
