"""Every connection is killed again and again: rows per second, and nothing lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset

from benchmarks import data
from benchmarks.contest import Contest, Contestant, Notes, Sample, Trial
from benchmarks.process import Child, ChildError
from benchmarks.settings import Settings

KEY = "l_orderkey"
PARTITIONS = 16
SEED = 20
SCALE, SCALE_QUICK = 1.0, 0.1
BYTES_BETWEEN, BYTES_BETWEEN_QUICK = 3_000_000, 1_000_000
CUTS_MIN, CUTS_MIN_QUICK = 200, 20
STEP_TIMEOUT_SECONDS = 300.0
CUT, UNCUT = "Laminar, connections cut", "Laminar, same proxies, not cut"


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to run the exchange through the proxies."""

    source: Path
    """Folder of Parquet files."""
    bytes_between: float | None
    """Mean number of bytes that a connection lives; ``None``: they live."""
    cuts_min: int = 0
    """Fewer cuts in a turn are a failure: it would prove nothing."""
    workers: int = 2
    channels: int = 2
    batch_rows: int = 65_536
    config: dict[str, Any] = field(default_factory=dict)
    """Of the workers' :class:`~laminar.ShuffleConfig`."""
    seed: int = SEED


def contests(settings: Settings) -> Iterator[Contest]:
    """The one contest: cut against uncut."""
    scale = SCALE_QUICK if settings.quick else SCALE
    source = data.lineitem(settings.cache, scale)
    between = BYTES_BETWEEN_QUICK if settings.quick else BYTES_BETWEEN
    cut = Plan(source, between, CUTS_MIN_QUICK if settings.quick else CUTS_MIN)
    yield Contest(
        title=f"Cuts: lineitem SF {scale:g} by {KEY}, two workers, every connection killed",
        unit="rows/s",
        higher_is_better=True,
        groups=[
            [
                Contestant(CUT, _starter(cut, settings), ours=True),
                Contestant(UNCUT, _starter(Plan(source, None), settings)),
            ]
        ],
        remark=(
            "All connections between the workers go through proxies in a process of their own, "
            f"which kill each after a random number of bytes, {between / 1e6:g} MB in the mean, "
            "one in twenty in its handshake, half by reset and half by closing. At least "
            f"{cut.cuts_min} cuts a trial, or it fails. After every trial DuckDB compares what "
            "arrived with the input as a multiset; the workers check that no row comes twice, not "
            "at all, or out of turn on its channel."
        ),
    )


def _starter(plan: Plan, settings: Settings) -> Callable[[], AbstractContextManager[Trial]]:
    return lambda: trials(plan, settings.scratch / "cuts", settings.logs)


@contextmanager
def trials(plan: Plan, scratch: Path, logs: Path) -> Iterator[Trial]:
    """Start the workers and the proxies between them; each call is one checked exchange."""
    scratch.mkdir(parents=True, exist_ok=True)
    nodes = [f"worker-{number}" for number in range(plan.workers)]
    # The workers are stopped first: without their proxies they would try to say goodbye.
    with ExitStack() as middle, ExitStack() as ends:

        def start(stack: ExitStack, entry: str, **parameters: Any) -> Child:
            child = Child(entry, logs, **parameters)
            stack.callback(child.stop)
            return child

        workers = [
            start(
                ends,
                "laminar_cuts:worker",
                source=str(plan.source),
                by=KEY,
                partitions=PARTITIONS,
                nodes=nodes,
                me=node,
                channels=plan.channels,
                batch_rows=plan.batch_rows,
                config=plan.config,
            )
            for node in nodes
        ]
        targets = [worker.expect(STEP_TIMEOUT_SECONDS)["address"] for worker in workers]
        # Each worker reaches each other one through a proxy of that pair.
        pairs = [(a, b) for a in range(plan.workers) for b in range(plan.workers) if a != b]
        proxies = start(
            middle, "cutter:proxies", targets=[targets[b] for _, b in pairs], seed=plan.seed
        )
        behind = proxies.expect(STEP_TIMEOUT_SECONDS)["addresses"]
        for number, worker in enumerate(workers):
            worker.say(
                **{
                    nodes[b]: address
                    for (a, b), address in zip(pairs, behind, strict=True)
                    if a == number
                }
            )
        for worker in workers:
            worker.expect(STEP_TIMEOUT_SECONDS)
        yield _Exchanges(plan, scratch, workers, proxies).trial


class _Exchanges:
    """Running workers and proxies, and how often they were told to exchange."""

    def __init__(self, plan: Plan, scratch: Path, workers: list[Child], proxies: Child) -> None:
        self._plan = plan
        self._scratch = scratch
        self._workers = workers
        self._proxies = proxies
        self._turns = count()
        self._rows: int = pyarrow.dataset.dataset(plan.source).count_rows()

    def trial(self) -> Sample:
        """One exchange. Raises :class:`ChildError` when a row is lost or the cuts are too few."""
        turn = next(self._turns)
        self._told_cuts(self._plan.bytes_between)
        started = time.monotonic()
        for worker in self._workers:
            worker.say(turn=turn)
        reports = [worker.expect(STEP_TIMEOUT_SECONDS) for worker in self._workers]
        seconds = time.monotonic() - started
        cuts = self._told_cuts(None)
        rows = sum(report["rows"] for report in reports)
        if rows != self._rows:
            raise ChildError(f"Laminar moved {rows} of {self._rows} rows")
        if cuts < self._plan.cuts_min:
            raise ChildError(f"only {cuts} cuts of the {self._plan.cuts_min} that it takes")
        self._check()
        notes: Notes = {"cuts": float(cuts)} if self._plan.bytes_between else {}
        return Sample(rows / seconds, notes)

    def _told_cuts(self, bytes_between: float | None) -> int:
        """The cuts since asked last; from now on connections live that long."""
        self._proxies.say(bytes_between=bytes_between)
        return sum(self._proxies.expect(STEP_TIMEOUT_SECONDS)["cuts"])

    def _check(self) -> None:
        """Compare input and output by another engine."""
        paths = [
            self._scratch / f"arrived-{number}.parquet" for number in range(len(self._workers))
        ]
        for worker, path in zip(self._workers, paths, strict=True):
            worker.say(path=str(path))
        for worker in self._workers:
            worker.expect(STEP_TIMEOUT_SECONDS)
        sources = [self._plan.source / "*.parquet", self._scratch / "arrived-*.parquet"]
        wanted, found = (fingerprint(source) for source in sources)
        for path in paths:
            path.unlink()
        if wanted != found:
            raise ChildError(f"what arrived is not what was sent: {found}, not {wanted}")


def fingerprint(pattern: Path) -> tuple[int, int]:
    """Rows in Parquet files, and the sum of a 64-bit hash of each: the same for equal multisets."""
    query = f"SELECT count(*), sum(hash(t)::HUGEINT) FROM read_parquet('{pattern}') AS t"
    rows, hashes = duckdb.sql(query).fetchall()[0]
    return rows, hashes
