"""What can be asked, and the answers."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Final

import anyio
from aiohttp import web

from laminar.admin.exposition import Exposition
from laminar.admin.guard import error_response, json_response
from laminar.admin.rotation import Rotation
from laminar.admin.watchers import Watchers
from laminar.cluster.gossip.key_messages import KeyReport
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.kv import SHUFFLE_ADDR_KEY
from laminar.errors import NAMED_MAX
from laminar.model import NodeId, node_id
from laminar.node.node import Node

INDEX: Final = """\
laminar {version}, node {node}

GET /healthz                 200 while the node is a member of its cluster
GET /readyz?min_members=N    200 when N nodes are alive and can be sent to
GET /members                 the nodes of the cluster; ?watch follows them
GET /statistics              all numbers, as JSON
GET /metrics                 all numbers, for Prometheus
GET /kv?prefix=P             what the nodes tell of themselves; ?watch follows it
GET /kv/NODE/KEY             one value
GET /keys                    which keys the nodes have, by their ids
POST /keys/rotate            have the whole cluster use a new key; ?skip_dead waits for no dead
                             node. From this machine only, and not by a web page
"""


class Routes:
    """The handlers of one node's server. All of them only read, but :meth:`rotate`."""

    def __init__(self, node: Node, watchers: Watchers) -> None:
        self._node = node
        self._watchers = watchers
        self._exposition = Exposition(node.statistics)

    def table(self) -> list[web.RouteDef]:
        """Which path leads where."""
        return [
            web.get("/", self.index, allow_head=False),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
            web.get("/members", self.members, allow_head=False),
            web.get("/statistics", self.statistics, allow_head=False),
            web.get("/metrics", self.metrics, allow_head=False),
            web.get("/kv", self.scan, allow_head=False),
            web.get("/kv/{node}/{key:.+}", self.read, allow_head=False),
            web.get("/keys", self.keys, allow_head=False),
            web.post("/keys/rotate", self.rotate),
        ]

    async def index(self, request: web.Request) -> web.Response:
        _parameters(request)
        statistics = self._node.statistics()
        text = INDEX.format(version=statistics.version, node=statistics.node)
        return web.Response(text=text)

    async def healthz(self, request: web.Request) -> web.Response:
        _parameters(request)
        if self._node.error is not None:
            return error_response(503, str(self._node.error))
        return json_response({"node": self._node.id, "addr": self._node.local_addr})

    async def readyz(self, request: web.Request) -> web.Response:
        wanted = _count(_parameters(request, "min_members").get("min_members", "1"))
        if self._node.error is not None:
            return error_response(503, str(self._node.error))
        ready = await self._node.reachable()
        missing = {
            node: member.state.value
            if member.state is not MemberState.ALIVE
            else f"has not published {SHUFFLE_ADDR_KEY}"
            for node, member in self._node.members().items()
            if node not in ready
        }
        answer = {"min_members": wanted, "ready": ready, "missing": missing}
        if len(ready) < wanted:
            reason = f"{len(ready)} of {wanted} members are alive and can be sent to"
            return json_response({"error": reason, **answer}, 503)
        return json_response(answer)

    async def members(self, request: web.Request) -> web.StreamResponse:
        if _flag(_parameters(request, "watch"), "watch"):
            return await self._watchers.serve(request, self._node.watch_members())
        members = sorted(self._node.members().values(), key=lambda member: member.node)
        return json_response({"node": self._node.id, "members": members})

    async def statistics(self, request: web.Request) -> web.Response:
        _parameters(request)
        return json_response(self._node.statistics())

    async def metrics(self, request: web.Request) -> web.Response:
        _parameters(request)
        body, content_type = self._exposition.text(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def scan(self, request: web.Request) -> web.StreamResponse:
        parameters = _parameters(request, "prefix", "watch")
        prefix = parameters.get("prefix", "")
        if _flag(parameters, "watch"):
            return await self._watchers.serve(request, self._node.kv.watch(prefix))
        return json_response(await self._node.kv.scan(prefix))

    async def read(self, request: web.Request) -> web.Response:
        _parameters(request)
        node, key = node_id(request.match_info["node"]), request.match_info["key"]
        value = await self._node.kv.read_from(node, key)
        if value is None:
            return error_response(404, await self._why_missing(node, key))
        return json_response({"node": node, "key": key, "value": value})

    async def _why_missing(self, node: NodeId, key: str) -> str:
        members = self._node.members()
        known = sorted(members.keys() | await self._node.kv.scan())
        if node not in known:
            more = f" and {len(known) - NAMED_MAX} more" if len(known) > NAMED_MAX else ""
            return f"no node {node} is known here; known are {', '.join(known[:NAMED_MAX])}{more}"
        if node in members and members[node].state is MemberState.LEFT:
            return f"node {node} has left, and its keys with it"
        return f"node {node} has no key {key!r}"

    async def keys(self, request: web.Request) -> web.Response:
        _parameters(request)
        reports = self._node.gossip.key_reports()
        return json_response({node: _key_state(report) for node, report in reports.items()})

    async def rotate(self, request: web.Request) -> web.StreamResponse:
        skip_dead = _flag(_parameters(request, "skip_dead"), "skip_dead")
        if request.can_read_body:
            raise web.HTTPBadRequest(reason="this takes no body, but ?skip_dead")
        rotation = Rotation(self._node.gossip, skip_dead=skip_dead)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rotation.run)
            response = await self._watchers.serve(request, nullcontext(rotation))
            tasks.cancel_scope.cancel()
        return response


def _parameters(request: web.Request, *known: str) -> dict[str, str]:
    """The parameters of the request, none of them unknown or twice."""
    for name in request.query:
        if name not in known:
            takes = f"it takes {' and '.join(known)}" if known else "it takes none"
            raise web.HTTPBadRequest(reason=f"unknown parameter {name!r}: {takes}")
    return dict(request.query)


def _flag(parameters: dict[str, str], name: str) -> bool:
    """``?watch`` and ``?watch=1``, but not ``?watch=0``."""
    value = parameters.get(name, "0").lower()
    if value not in ("", "0", "1", "false", "true"):
        raise web.HTTPBadRequest(reason=f"{name} is 0 or 1, got {value!r}")
    return value in ("", "1", "true")


def _key_state(report: KeyReport) -> dict[str, object]:
    """Which keys a node has, by their ids, and how far it has followed the newest change."""
    return {
        "primary": report.primary.hex(),
        "keys": [identity.hex() for identity in report.ids],
        "stage": report.stage.name.lower(),
        "trouble": report.trouble,
    }


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < len(text) <= 9:
        raise web.HTTPBadRequest(reason=f"min_members is a number, got {text!r}")
    return int(text)
