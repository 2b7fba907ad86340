from unittest import mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from laminar.admin.guard import guard, is_loopback_host


async def answer(method, *, host, remote, local):
    """What becomes of a request from the address ``remote``."""
    transport = mock.Mock(spec_set=["get_extra_info"])
    transport.get_extra_info.side_effect = {"peername": (remote, 40000)}.get
    request = make_mocked_request(method, "/", headers={"Host": host}, transport=transport)

    async def handler(request):
        return web.Response(text="done")

    return (await guard(local=local)(request, handler)).status


@pytest.mark.parametrize(
    ("method", "host", "remote", "local", "status"),
    [
        ("GET", "localhost", "127.0.0.1", True, 200),
        ("GET", "a.example", "127.0.0.1", True, 403),
        ("GET", "a.example:7947", "10.0.0.7", False, 200),
        ("POST", "localhost", "127.0.0.1", True, 200),
        ("POST", "localhost", "127.0.0.1", False, 200),
        ("POST", "[::1]:7947", "::1", False, 200),
        ("POST", "localhost", "::ffff:127.0.0.1", False, 200),
        ("POST", "localhost", "10.0.0.7", False, 403),
        ("POST", "127.0.0.1", "::ffff:10.0.0.7", False, 403),
        ("POST", "a.example", "127.0.0.1", False, 403),
        ("DELETE", "localhost", "10.0.0.7", False, 403),
    ],
)
async def test_only_this_machine_changes_anything(method, host, remote, local, status):
    assert await answer(method, host=host, remote=remote, local=local) == status


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:80", "localhost.", "127.0.0.1", "127.1.2.3:1", "[::1]", "[::1]:9"],
)
def test_names_of_this_machine(host):
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        "evil",
        "localhost.evil",
        "127.0.0.1.evil",
        "10.0.0.1",
        "0.0.0.0",
        "[::2]",
        "127.1",
    ],
)
def test_names_that_could_be_anybody(host):
    assert not is_loopback_host(host)
