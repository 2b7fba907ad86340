"""Who asks a node to dial, and what the node writes about it."""

import time
from contextlib import asynccontextmanager

import anyio

import laminar
from laminar.cluster.gossip.agent import GossipAgent
from laminar.config import GossipConfig
from laminar.node.consultation import ASK_KEY, Ask, answer_key, decode_answer, encode
from laminar.node.examiner import Examiner
from laminar.shuffle.reach import Probe, Reach
from tests.wiring import eventually, limited

QUICK = GossipConfig(interval_s=0.02, leave_timeout_s=0.2)


class Prober:
    """Dials nobody."""

    def __init__(self, probe=None):
        self.dialled = []
        self.result = probe or Probe(Reach.CONNECTED, "key", 'no key, says "ключ"' + "x" * 5000)

    async def probe(self, addr):
        self.dialled.append(addr)
        return self.result


@asynccontextmanager
async def examined(monkeypatch, prober, config=QUICK):
    """A doctor, and a node whose examiner answers it."""
    monkeypatch.setattr("laminar.node.examiner.PAUSE_S", 0.01)
    async with (
        GossipAgent("d", "127.0.0.1:0", config=QUICK) as doctor,
        GossipAgent("n", "127.0.0.1:0", seeds=[doctor.local_addr], config=config) as node,
        anyio.create_task_group() as tasks,
    ):
        examiner = Examiner(node.kv, lambda: prober)
        tasks.start_soon(examiner.run)
        yield doctor, node, examiner
        tasks.cancel_scope.cancel()


@limited
async def test_an_answer_says_what_came_of_it_and_goes_with_the_question(monkeypatch):
    prober = Prober()
    async with (
        examined(monkeypatch, prober) as (doctor, _, _),
        doctor.kv.watch(answer_key("d")) as answers,
    ):
        await doctor.kv.write(ASK_KEY, encode(Ask("10.0.0.1:1", "n1")))
        answer = decode_answer((await anext(answers)).value)
        assert prober.dialled == ["10.0.0.1:1"]
        assert (answer.nonce, answer.reach, answer.reason) == ("n1", "connected", "key")
        assert answer.detail.startswith('no key, says "????"x')
        assert abs(answer.wall_s - time.time()) < 5
        assert answer.version == laminar.__version__
        await doctor.kv.delete(ASK_KEY)
        assert (await anext(answers)).value is None


@limited
async def test_nonsense_is_not_dialled(monkeypatch):
    prober = Prober()
    async with (
        examined(monkeypatch, prober) as (doctor, _, _),
        doctor.kv.watch(answer_key("d")) as answers,
    ):
        await doctor.kv.write(ASK_KEY, "nonsense")
        answer = decode_answer((await anext(answers)).value)
        assert (answer.reach, answer.reason) == ("nowhere", "doctor")
        assert prober.dialled == []


@limited
async def test_own_questions_and_other_keys_are_none(monkeypatch):
    prober = Prober()
    async with examined(monkeypatch, prober) as (doctor, node, _):
        await node.kv.write(ASK_KEY, encode(Ask("10.0.0.1:1", "n1")))
        await doctor.kv.write(f"{ASK_KEY}ing", encode(Ask("10.0.0.1:2", "n1")))
        await doctor.kv.write(ASK_KEY, encode(Ask("10.0.0.1:3", "n1")))
        await eventually(lambda: prober.dialled)
        assert prober.dialled == ["10.0.0.1:3"]


@limited
async def test_a_slot_without_room_is_no_disaster(monkeypatch):
    crowded = GossipConfig(interval_s=0.02, leave_timeout_s=0.2, keys_max=1)
    async with examined(monkeypatch, Prober(), crowded) as (doctor, _, examiner):
        await doctor.kv.write(ASK_KEY, encode(Ask("10.0.0.1:1", "n1")))
        await eventually(lambda: examiner.unanswered == 1)
        await doctor.kv.write(ASK_KEY, encode(Ask("10.0.0.1:1", "n2")))
        await eventually(lambda: examiner.unanswered == 2)
