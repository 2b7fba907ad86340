"""Runs a plan: the production drivers on a simulated network, watched by a ledger."""

import random
import re
from functools import partial
from math import inf

import anyio

from laminar.cluster.memory import InMemoryKv
from laminar.errors import FanOutError, LaminarError, RemoteError
from laminar.shuffle.exchange import Exchange
from laminar.shuffle.messages import Barrier, Close, Data, End, Watermark
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender
from laminar.testing.simulation import Outcome, Simulation, SimulationHungError, simulate
from tests.simulation.ledger import Lane, Ledger, Violation
from tests.simulation.partition import ByTarget, mixed
from tests.simulation.plan import CALM_S, RECONNECT_S, Flow, Op, Plan, plan_of
from tests.simulation.windows import WindowWatch

LIMIT_S = 1000.0
"""Virtual seconds after which a run counts as hung."""

AFTERMATH_S = 3 * RECONNECT_S
"""After a loss: how long receivers go on listening when all senders are done."""


class World:
    """The nodes of a plan and everything they share."""

    def __init__(self, plan: Plan, simulation: Simulation) -> None:
        self.plan = plan
        self.simulation = simulation
        self.network = simulation.network
        self.rng = simulation.rng
        self.ledger = Ledger(self.fail)
        self.violation: Violation | None = None
        self.senders: dict[str, ShuffleSender] = {}
        self.receivers: dict[str, ShuffleReceiver] = {}
        self.addresses: dict[str, str] = {}
        self.kvs = InMemoryKv.cluster(plan.nodes) if plan.with_kv else {}
        self.lives = dict.fromkeys(plan.nodes, 0)
        self.lives_of_receivers = dict.fromkeys(plan.nodes, 0)
        self.told: dict[int, tuple[RemoteError, int]] = {}
        """By identity: errors told to senders, and by when."""
        self.calls = 0
        self.tellings: dict[tuple[str, str, str], int] = {}
        self.news = anyio.Event()
        self.scope = anyio.CancelScope()
        self.sender_scopes: dict[str, anyio.CancelScope] = {}
        self.receiver_scopes: dict[str, anyio.CancelScope] = {}
        self.reborn: dict[str, anyio.Event] = {}
        self.watch = WindowWatch(self.senders, self.receivers, self.fail)
        self.network.watch(self.look)

    def fail(self, invariant: str, detail: str) -> None:
        """Keep the first broken promise, and end the run."""
        if self.violation is None:
            self.violation = Violation(invariant, detail)
            self.scope.cancel()

    def look(self) -> None:
        """Called at each event of the network."""
        self.watch.look()

    # -- the run -------------------------------------------------------------------------

    async def run(self) -> None:
        with self.scope:
            async with anyio.create_task_group() as tasks:
                for name in self.plan.nodes:
                    self.reborn[name] = anyio.Event()
                    tasks.start_soon(self.receive_lives, name)
                for name in self.plan.nodes:
                    await self.reborn[name].wait()
                tasks.start_soon(self.make_trouble)
                await self.send_everything()
                if self.plan.fate == "lossless":
                    while any(lane.missing(0) for lane in self.ledger.lanes.values()):
                        self.news = anyio.Event()
                        await self.news.wait()
                else:
                    await anyio.sleep(AFTERMATH_S)
                self.watch.look_everywhere()
                tasks.cancel_scope.cancel()
        if self.violation is None:
            self.check_the_end()
        if self.violation is not None:
            raise self.violation

    async def send_everything(self) -> None:
        async with anyio.create_task_group() as tasks:
            for name in self.plan.nodes:
                tasks.start_soon(self.send_lives, name)

    def check_the_end(self) -> None:
        """What was sent for certain, and never told to be lost, has come."""
        for receiver in self.plan.nodes if self.plan.shape == "exchange" else ():
            barriers = max(
                lane.interval for lane in self.ledger.lanes.values() if lane.receiver == receiver
            )
            if self.ledger.alignments.get(receiver, 0) != barriers:
                self.fail("barrier", f"{receiver}: not all of {barriers} checkpoints came out")
        for lane in self.ledger.lanes.values():
            generation = self.ledger.generation(lane)
            missing = lane.missing(generation)
            if missing and generation > lane.forgiven:
                self.fail("loss", missing)

    # -- trouble -------------------------------------------------------------------------

    async def make_trouble(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.fate)
            for trouble in self.plan.troubles:
                await anyio.sleep(max(0.0, trouble.at_s - anyio.current_time()))
                tasks.start_soon(self.trouble, trouble)
            await anyio.sleep(CALM_S - anyio.current_time())
            self.network.calm()

    async def trouble(self, trouble) -> None:
        network, (_, kind, first, second, duration_s) = self.network, trouble
        if kind == "reset":
            network.reset_connections(first, second)
        elif kind == "pause":
            network.host(first).pause()
            await anyio.sleep(duration_s)
            network.host(first).resume()
        else:
            network.cut(first, second, one_way=kind == "one_way_partition")
            await anyio.sleep(duration_s)
            network.heal(first, second)

    async def fate(self) -> None:
        plan, victim = self.plan, self.plan.victim
        await anyio.sleep(plan.fate_at_s)
        if plan.fate == "restart_sender":
            self.sender_scopes[victim].cancel()
        elif plan.fate == "restart_receiver":
            self.network.host(victim).crash()
            self.receiver_scopes[victim].cancel()
        elif plan.fate == "loss":
            others = [name for name in plan.nodes if name != victim]
            deadline = anyio.current_time() + plan.fate_lasts_s
            for other in others:
                self.network.reset_connections(victim, other)
                self.network.refuse(victim, other)
                self.network.refuse(other, victim)
            if deadline > CALM_S > anyio.current_time():
                # The calm would end this.
                await anyio.sleep(CALM_S - anyio.current_time() + 0.001)
                for other in others:
                    self.network.refuse(victim, other)
                    self.network.refuse(other, victim)
            await anyio.sleep(max(0.0, deadline - anyio.current_time()))
            for other in others:
                self.network.heal(victim, other)

    # -- sending -------------------------------------------------------------------------

    async def send_lives(self, name: str) -> None:
        """The sender of a node, and once more if it is to restart."""
        scope = self.sender_scopes[name] = anyio.CancelScope()
        with scope:
            await self.send_life(name)
        self.senders.pop(name, None)
        if scope.cancelled_caught:
            await anyio.sleep(self.plan.fate_lasts_s)
            self.lives[name] += 1
            for receiver in self.plan.nodes:
                pair = (name, receiver)
                self.ledger.generations[pair] = self.ledger.generations.get(pair, 0) + 1
            await self.send_life(name)
            self.senders.pop(name, None)

    async def send_life(self, name: str) -> None:
        sender = ShuffleSender(
            name,
            kv=self.kvs.get(name),
            config=self.plan.configs[name],
            network=self.network.host(name),
            rng=random.Random(self.rng.random()),
            incarnation=1000 * self.lives[name],
        )
        for peer, addr in self.addresses.items():
            sender.register_peer(peer, addr)
        started = self.calls
        try:
            async with sender:
                self.senders[name] = sender
                if self.plan.shape == "exchange":
                    await self.send_exchange(name, sender)
                elif self.plan.shape == "serial":
                    await self.send_serially(name, sender)
                else:
                    async with anyio.create_task_group() as tasks:
                        for flow in self.plan.flows:
                            if flow.sender == name:
                                tasks.start_soon(self.send_flow, sender, flow)
                await self.flush(name, sender)
                started = self.calls
        except LaminarError as error:
            self.tell(name, error, started)

    async def flush(self, name: str, sender: ShuffleSender) -> None:
        """Whatever was lost until now is told at the latest here."""
        started = self.calls = self.calls + 1
        try:
            await sender.flush()
        except LaminarError as error:
            self.tell(name, error, started)
        for link in sender._failed.values():
            if not link.failure_told:
                self.fail("told", f"{name}: nobody was told of {link.failure}")

    def tell(self, name: str, error: LaminarError, started: int) -> None:
        """The sender of ``name`` was told of a failure, by a call that began at ``started``."""
        if isinstance(error, FanOutError):
            for each in error.failures.values():
                self.tell(name, each, started)
            return
        if not isinstance(error, RemoteError) or self.plan.fate == "lossless":
            self.fail("told", f"{name}: {type(error).__name__}: {error}")
            return
        peer = self.peer_of(error)
        known = self.told.get(id(error))
        if known is None:
            self.told[id(error)] = (error, self.calls)
            pair = (name, peer)
            self.ledger.generations[pair] = self.ledger.generations.get(pair, 0) + 1
        elif started > known[1]:
            self.fail("told", f"{name}: told again of {error}")
        self.calls += 1

    def peer_of(self, error: LaminarError) -> str:
        found = re.match(r"peer (\w+) ", str(error))
        if found is None:
            self.fail("told", f"an error does not say which peer: {error!r}")
            return "?"
        return found[1]

    async def send_flow(self, sender: ShuffleSender, flow: Flow) -> None:
        lane = self.ledger.lane(flow.sender, flow.receiver, flow.channel)
        ops = flow.ops if self.lives[flow.sender] == 0 else flow.ops[: len(flow.ops) // 2]
        for op in ops:
            if op.pause_s:
                await anyio.sleep(op.pause_s)
            await self.attempt(flow, lane, partial(self.do, sender, flow, lane, op))
        if self.plan.fate == "lossless" and len(flow.ops) % 4:
            await self.attempt(flow, lane, partial(self.end, sender, lane))

    async def attempt(self, flow: Flow, lane: Lane, action) -> None:
        started, before = self.calls, (lane.next_number, lane.interval)
        self.calls += 1
        try:
            await action()
        except LaminarError as error:
            self.ledger.doubtful(lane, *before)
            self.tell(flow.sender, error, started)
        except BaseException:
            self.ledger.doubtful(lane, *before)
            raise

    async def do(self, sender: ShuffleSender, flow: Flow, lane: Lane, op: Op) -> None:
        generation, first = self.ledger.generation(lane), lane.next_number
        if op.kind == "barrier":
            barrier = self.ledger.barrier(lane)
            await sender.send_to(lane.receiver, Barrier(barrier, lane.channel))
            lane.firm_controls[generation] += 1
        elif op.kind == "watermark":
            mark = Watermark(self.ledger.watermark(lane), lane.channel)
            await sender.send_to(lane.receiver, mark)
            lane.firm_controls[generation] += 1
        else:
            batch = self.ledger.batch(lane, op.rows, op.pad_bytes, flow.dictionary)
            message = Data(batch, lane.channel)
            if op.kind == "cancelled":
                with anyio.move_on_after(self.rng.choice((0.0, 0.01, 0.1))) as scope:
                    await sender.send_to(lane.receiver, message)
                if scope.cancelled_caught:
                    self.ledger.doubtful(lane, first, lane.interval)
                    return
            else:
                await sender.send_to(lane.receiver, message)
            self.ledger.sent(lane, generation, first)

    async def end(self, sender: ShuffleSender, lane: Lane) -> None:
        await sender.send_to(lane.receiver, End(lane.channel))
        lane.firm_controls[self.ledger.generation(lane)] += 1

    async def send_serially(self, name: str, sender: ShuffleSender) -> None:
        """One task for all flows of a node, whose barriers are fanned out."""
        flows = [flow for flow in self.plan.flows if flow.sender == name]
        lanes = [self.ledger.lane(flow.sender, flow.receiver, flow.channel) for flow in flows]
        for lane in lanes:
            await sender.open_channel(lane.receiver, lane.channel)
        for step in range(max((len(flow.ops) for flow in flows), default=0)):
            for flow, lane in zip(flows, lanes, strict=True):
                if step < len(flow.ops) and flow.ops[step].kind != "barrier":
                    await self.do(sender, flow, lane, flow.ops[step])
            if step % 3 == 2:
                barriers = {self.ledger.barrier(lane) for lane in lanes}
                assert len(barriers) == 1
                await sender.fan_out_barrier([lane.receiver for lane in lanes], barriers.pop())
                for lane in lanes:
                    lane.firm_controls[0] += 1
            if step % 4 == 3:
                await sender.flush()

    async def send_exchange(self, name: str, sender: ShuffleSender) -> None:
        (flow,) = [flow for flow in self.plan.flows if flow.sender == name]
        lanes = [self.ledger.lane(name, receiver, "x") for receiver in self.plan.nodes]
        exchange = self.watch.exchanges[name] = self.exchange(name, sender)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.consume_exchange, name, exchange)
            for op in flow.ops:
                if op.pause_s:
                    await anyio.sleep(op.pause_s)
                await self.do_exchange(exchange, flow, lanes, op)
            await exchange.end()
            for lane in lanes:
                lane.firm_controls[0] += 1

    def exchange(self, name: str, sender: ShuffleSender) -> Exchange:
        return Exchange(
            "x",
            sender=sender,
            receiver=self.receivers[name],
            partitioner=ByTarget(self.plan.nodes),
        )

    async def do_exchange(self, exchange: Exchange, flow: Flow, lanes: list[Lane], op: Op) -> None:
        if op.kind == "barrier":
            (barrier,) = {self.ledger.barrier(lane) for lane in lanes}
            await exchange.barrier(barrier)
        elif op.kind == "watermark":
            await exchange.watermark(min(lane.next_number for lane in lanes))
        else:
            firsts = [lane.next_number for lane in lanes]
            batches = []
            for lane in lanes:
                rows = self.rng.choice((0, 1, op.rows))
                batches.append(self.ledger.batch(lane, rows, op.pad_bytes, flow.dictionary))
            await exchange.send(mixed(batches, self.plan.nodes))
            for lane, first in zip(lanes, firsts, strict=True):
                self.ledger.sent(lane, 0, first)

    async def consume_exchange(self, name: str, exchange: Exchange) -> None:
        try:
            async for peer, message in exchange:
                if peer is not None:
                    self.arrived(name, "x", peer, message)
                elif isinstance(message, Barrier):
                    self.ledger.aligned(name, message.barrier)
                elif isinstance(message, Watermark):
                    self.ledger.passed(name, message.timestamp)
                else:
                    self.fail("barrier", f"{name}: {message}")
                await self.rest(name)
        except RemoteError as error:
            self.lost(name, "x", error)

    # -- receiving -----------------------------------------------------------------------

    async def receive_lives(self, name: str) -> None:
        scope = self.receiver_scopes[name] = anyio.CancelScope()
        with scope:
            await self.receive_life(name)
        if scope.cancelled_caught:
            del self.receivers[name]
            for lane in self.ledger.lanes.values():
                if lane.receiver == name:
                    # What it had received and not consumed is gone, and its sender may be too.
                    lane.told, lane.forgiven = True, self.ledger.generation(lane)
            await anyio.sleep(self.plan.fate_lasts_s)
            self.lives_of_receivers[name] += 1
            await self.receive_life(name)

    async def receive_life(self, name: str) -> None:
        receiver = ShuffleReceiver.bind(
            name,
            self.addresses.get(name, f"{name}:0") if not self.kvs else f"{name}:0",
            kv=self.kvs.get(name),
            config=self.plan.configs[name],
            network=self.network.host(name),
            rng=random.Random(self.rng.random()),
            incarnation=1 + self.lives_of_receivers[name],
        )
        async with receiver:
            self.receivers[name] = receiver
            self.addresses[name] = receiver.local_addr
            self.reborn[name].set()
            async with anyio.create_task_group() as tasks:
                if self.plan.shape != "exchange":
                    for channel in self.plan.claimed[name]:
                        inbox = receiver.channel(channel)
                        tasks.start_soon(self.consume, name, channel, inbox)
                    tasks.start_soon(self.consume, name, "", receiver)
                await anyio.sleep_forever()

    async def consume(self, name: str, inbox_name: str, inbox) -> None:
        while True:
            try:
                if self.plan.drains[name] and self.rng.random() < 0.5:
                    for peer, message in inbox.drain_available():
                        self.arrived(name, inbox_name, peer, message)
                envelope = None
                with anyio.move_on_after(self.patience_s()):
                    envelope = await inbox.recv()
                if envelope is not None:
                    self.arrived(name, inbox_name, *envelope)
            except RemoteError as error:
                self.lost(name, inbox_name, error)
            await self.rest(name)

    def patience_s(self) -> float:
        """How long a consumer waits before it does something else, and comes back."""
        impatient = anyio.current_time() < CALM_S and self.rng.random() < 0.1
        return self.rng.choice((0.0, 0.01, 0.1)) if impatient else inf

    async def rest(self, name: str) -> None:
        slowness_s = self.plan.slowness_s[name]
        if slowness_s and self.rng.random() < 0.3:
            await anyio.sleep(self.rng.random() * slowness_s)

    def arrived(self, name: str, inbox: str, peer: str, message) -> None:
        self.simulation.trace.record("arrived", name, peer, type(message).__name__)
        if isinstance(message, Close):
            self.loss_told(peer, name, inbox)
        else:
            if not inbox and message.channel in self.plan.claimed[name]:
                self.fail("identity", f"{name}: {message.channel} came to everybody's inbox")
            self.ledger.received(peer, name, message)
        self.news.set()

    def lost(self, name: str, inbox: str, error: RemoteError) -> None:
        """The consumer of an inbox was told of a loss."""
        peer = self.peer_of(error)
        self.simulation.trace.record("lost", name, peer, type(error).__name__)
        if "was cut off" in str(error):
            self.fail("honest peers", f"{name}: {error}")
        if self.plan.fate == "lossless":
            self.fail("told", f"{name}: {type(error).__name__}: {error}")
        key = (name, inbox, peer)
        self.tellings[key] = self.tellings.get(key, 0) + 1
        if self.tellings[key] > len(self.watch.sessions.get((name, peer), ())):
            self.fail("told", f"{name}: told again of {error}")
        self.loss_told(peer, name, inbox)

    def loss_told(self, sender: str, receiver: str, inbox: str) -> None:
        """Note it for the channels that ``inbox`` has."""
        claimed = self.plan.claimed[receiver]
        for lane in self.ledger.lanes.values():
            if (lane.sender, lane.receiver) == (sender, receiver):
                own = lane.channel if lane.channel in claimed or lane.channel == "x" else ""
                lane.told = lane.told or own == inbox


def run_seed(seed: int) -> Outcome[None]:
    """Run what ``seed`` stands for. Raises :class:`Violation` when a promise is broken."""
    plan = plan_of(seed)
    try:
        return simulate(
            seed,
            lambda simulation: World(plan, simulation).run(),
            faults=plan.faults,
            limit_s=LIMIT_S,
        )
    except SimulationHungError as error:
        raise Violation("hang", str(error)) from error
    except BaseExceptionGroup as error:
        raise Violation("crash", f"the fabric itself failed: {error!r}") from error
