"""Who may ask, and how an error looks: around every request."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from laminar.errors import ConfigError, LaminarError

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json_response(value: object, status: int = 200) -> web.Response:
    """``value``, of dataclasses, enums and what JSON has, as an answer."""
    body = msgspec.json.encode(value, enc_hook=_plain) + b"\n"
    return web.Response(body=body, status=status, content_type="application/json")


def error_response(status: int, reason: str) -> web.Response:
    """An answer that says what is wrong."""
    return json_response({"error": reason}, status)


def _plain(value: object) -> object:
    """What JSON has, of what it has not."""
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")


def guard(*, local: bool) -> Middleware:
    """Keeps out whom the server is not for, and makes answers of errors.

    ``local``: whether only this machine can connect. Then a page in an operator's browser can
    still have a name of its own resolve to 127.0.0.1, and read what is served there (DNS
    rebinding); but it cannot pretend that it asked for another name.
    """

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _check(request, local)
            return await handler(request)
        except web.HTTPNotFound:
            return error_response(404, f"there is nothing at {request.path}; see /")
        except web.HTTPException as error:
            response = error_response(error.status, error.reason)
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except ConfigError as error:
            return error_response(400, str(error))
        except LaminarError as error:
            return error_response(503, str(error))

    return around


def _check(request: web.Request, local: bool) -> None:
    """Raises :class:`aiohttp.web.HTTPForbidden`."""
    writes = request.method not in ("GET", "HEAD")
    if (local or writes) and not is_loopback_host(request.headers.get("Host", "")):
        raise web.HTTPForbidden(reason="the Host header must be localhost or a loopback address")
    if writes and not _is_loopback(request.remote or ""):
        raise web.HTTPForbidden(reason="this can only be done from the node's own machine")
    if writes and "Origin" in request.headers:  # every browser says where a POST comes from
        raise web.HTTPForbidden(reason="this cannot be done by a web page")


def is_loopback_host(host: str) -> bool:
    """Whether ``host``, as in a ``Host`` header, is this machine by a name that cannot lie."""
    name, _, port = host.rpartition(":")
    if not name or not port.isdigit():
        name = host
    if name.lower() in ("localhost", "localhost."):
        return True
    return _is_loopback(name.removeprefix("[").removesuffix("]"))


def _is_loopback(text: str) -> bool:
    """Whether ``text`` is an IP address of this machine alone."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
