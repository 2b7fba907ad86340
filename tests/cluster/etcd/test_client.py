"""Attempts, limits and errors of the HTTP client, without an etcd."""

import json
import random
from itertools import count

import anyio
import httpx2
import pytest

from laminar.cluster.etcd.client import EtcdClient
from laminar.cluster.etcd.statistics import EtcdCounters
from laminar.config import EtcdConfig
from laminar.errors import KvRefusedError, KvUnavailableError, ProtocolError
from tests.wiring import limited

CONFIG = EtcdConfig(
    endpoints=("http://one:1", "http://two:2"),
    request_timeout_s=0.5,
    backoff_initial_s=0.001,
    backoff_max_s=0.002,
    response_bytes_max=100,
)


class Body(httpx2.AsyncByteStream):
    """Given chunks; then the end, an error, or silence."""

    def __init__(self, *chunks, then=None):
        self.chunks = chunks
        self.then = then

    async def __aiter__(self):
        for chunk in self.chunks:
            await anyio.lowlevel.checkpoint()
            yield chunk
        if self.then is not None:
            await anyio.lowlevel.checkpoint()
            raise self.then


def client(*answers, asked=None):
    """One whose requests are answered in turn; an exception is raised, the last one repeats."""
    turn = count()

    def handle(request):
        if asked is not None:
            asked.append(request)
        made = answers[min(next(turn), len(answers) - 1)]
        if isinstance(made, Exception):
            raise made
        return made()

    return EtcdClient(CONFIG, httpx2.MockTransport(handle), random.Random(1), EtcdCounters())


def answer(status, *chunks, then=None):
    """Made anew for every request."""
    return lambda: httpx2.Response(status, stream=Body(*chunks, then=then))


def good(**fields):
    return answer(200, json.dumps(fields).encode())


@limited
async def test_the_request_is_json_to_the_gateway():
    asked = []
    async with client(good(ok=1), asked=asked) as etcd:
        assert await etcd.call("kv/range", {"key": "eA=="}) == {"ok": 1}
    (request,) = asked
    assert (request.method, str(request.url)) == ("POST", "http://one:1/v3/kv/range")
    assert json.loads(request.content) == {"key": "eA=="}


@limited
@pytest.mark.parametrize(
    "failure",
    [
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("late"),
        answer(200, b"{", then=httpx2.ReadError("reset")),
        answer(503, b"a proxy's page"),
        answer(503, b'{"error":"no leader","code":14}'),
        answer(500, b"{}"),
        answer(429, b'{"error":"too many requests","code":8}'),
    ],
)
async def test_what_may_pass_is_tried_again_with_the_next_member(failure):
    asked = []
    async with client(failure, failure, good(ok=1), asked=asked) as etcd:
        assert await etcd.call("kv/range", {}) == {"ok": 1}
        assert etcd._counters.attempts_failed == 2
    assert [request.url.host for request in asked] == ["one", "two", "one"]


@limited
async def test_what_is_refused_for_good_is_not_tried_again():
    refused = answer(404, b'{"error":"no lease","code":5}')
    async with client(refused) as etcd:
        with pytest.raises(KvRefusedError, match="no lease") as failure:
            await etcd.call("kv/put", {})
    assert failure.value.code == 5


@limited
@pytest.mark.parametrize(
    "nonsense",
    [
        answer(200, b"no JSON"),
        answer(404, b"not an etcd"),
        answer(200, b"x" * 101),
        answer(200, *[b"x" * 30] * 4),
    ],
)
async def test_nonsense_is_refused(nonsense):
    async with client(nonsense) as etcd:
        with pytest.raises(ProtocolError, match="etcd"):
            await etcd.call("kv/range", {})


@limited
async def test_time_is_limited_and_the_last_failure_is_told():
    async with client(httpx2.ConnectError("refused")) as etcd:
        with pytest.raises(KvUnavailableError, match=r"within 0.5 s.*ConnectError: refused"):
            await etcd.call("kv/range", {})


async def messages(*chunks, then=None):
    found = []
    async with (
        client(answer(200, *chunks, then=then)) as etcd,
        etcd.stream("watch", {}, 1.0) as stream,
    ):
        async for message in stream:
            found.append(message["n"])
    return found


@limited
async def test_a_stream_is_cut_into_lines_wherever_it_is_split():
    text = b'{"n":1}\n\n{"n":2}\n{"n":3}\n'
    for size in range(1, len(text) + 1):
        chunks = [text[start : start + size] for start in range(0, len(text), size)]
        assert await messages(*chunks) == [1, 2, 3]
    assert await messages(text + b'{"n":4') == [1, 2, 3]


@limited
async def test_a_stream_that_falls_silent_ends():
    assert await messages(b'{"n":1}\n', then=httpx2.ReadTimeout("silence")) == [1]


@limited
async def test_a_stream_that_breaks_or_never_ends_its_line_raises():
    with pytest.raises(KvUnavailableError, match="http://one:1: ReadError: reset"):
        await messages(b'{"n":1}\n', then=httpx2.ReadError("reset"))
    with pytest.raises(ProtocolError, match="larger than 100 bytes"):
        await messages(*[b"x" * 40] * 4)
    with pytest.raises(ProtocolError, match="larger than 100 bytes"):
        await messages(b"x" * 101 + b"\n")
    with pytest.raises(KvUnavailableError, match="leader"):
        await messages(b'{"error":{"grpc_code":14,"message":"no leader"}}\n')
    with pytest.raises(KvRefusedError, match="forbidden"):
        await messages(b'{"error":{"grpc_code":7,"message":"forbidden"}}\n')


@limited
async def test_a_stream_can_be_left_in_the_middle():
    whole = answer(200, b'{"n":1}\n{"n":2}\n', b'{"n":3}\n')
    async with client(whole) as etcd, etcd.stream("watch", {}, 1.0) as stream:
        assert await anext(stream) == {"n": 1}
