"""The command as its users meet it: a process, its exit code, and what it says where."""

import json
import os
import pty
import resource
import select
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 3_000

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "in.parquet"
    table = pa.table({"id": np.arange(ROWS) // 3, "text": [f"t{i % 5}" for i in range(ROWS)]})
    pq.write_table(table, path, row_group_size=500)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Takes seconds to shuffle: time enough to interrupt."""
    path = tmp_path_factory.mktemp("large") / "in.parquet"
    rng = np.random.default_rng(1)
    table = pa.table({name: rng.integers(0, 1 << 62, 3_000_000) for name in "abcd"})
    pq.write_table(table, path, row_group_size=50_000, use_dictionary=False)
    return path


def command(*arguments):
    return [sys.executable, "-m", "laminar.cli", "shuffle", *map(str, arguments)]


def run(*arguments, **options):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_summary_on_stdout_and_plain_progress_on_stderr(source, tmp_path):
    done = run(source, "--by", "id", "--out", tmp_path / "out", "--partitions", 3)
    assert done.returncode == 0
    assert done.stdout.startswith("3,000 rows in 3 partitions in ")
    assert str(tmp_path / "out") in done.stdout
    first, *_, last = done.stderr.splitlines()
    assert first.startswith("starting")
    assert last.startswith("publishing: 100%, 3,000 rows read")
    assert "\x1b" not in done.stdout + done.stderr
    assert len(os.listdir(tmp_path / "out")) == 3


def test_json_and_quiet(source, tmp_path):
    out = tmp_path / "out"
    done = run(source, "--by", "id,text", "--out", out, "--workers", 2, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said.keys() == {
        "rows",
        "seconds",
        "rows_per_second",
        "bytes_shuffled",
        "workers",
        "partitions",
        "peak_rss_bytes",
        "output",
    }
    assert (said["rows"], said["workers"], said["partitions"]) == (ROWS, 2, 16)
    assert said["output"] == str(out)
    assert said["rows_per_second"] == pytest.approx(ROWS / said["seconds"], rel=0.01)
    assert said["bytes_shuffled"] > ROWS * 8
    assert said["peak_rss_bytes"] > 10 << 20
    assert run(source, "--by", "id", "--out", tmp_path / "2", "--quiet").stdout == ""


def test_a_bar_on_a_terminal(source, tmp_path):
    ours, theirs = pty.openpty()
    arguments = command(source, "--by", "id", "--out", tmp_path / "out", "--workers", 1)
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the last one at the other end has closed it
                break
            if not data:
                break
            shown += data
        out, _ = process.communicate()
    os.close(ours)
    assert process.returncode == 0
    assert "░".encode() in shown
    assert b"worker 0" in shown
    assert shown.endswith(b"\x1b[0J")
    assert out.startswith(b"3,000 rows")


def bad_inputs(tmp_path, source):
    (tmp_path / "bad").mkdir()
    whole = source.read_bytes()
    (tmp_path / "bad" / "truncated.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad" / "text.parquet").write_text("hello")
    (tmp_path / "bad" / "none").mkdir()
    mixed = tmp_path / "bad" / "mixed"
    mixed.mkdir()
    pq.write_table(pa.table({"id": [1]}), mixed / "a.parquet")
    pq.write_table(pa.table({"id": ["1"]}), mixed / "b.parquet")
    (tmp_path / "bad" / "full").mkdir()
    (tmp_path / "bad" / "full" / "old").write_text("old")


@pytest.mark.parametrize(
    ("given", "by", "out", "said"),
    [
        ("{source}", "nope", "{tmp}/out", "no column 'nope'; it has: id, text"),
        ("{tmp}/missing.parquet", "id", "{tmp}/out", "No such file or directory"),
        ("{tmp}/*.parquet", "id", "{tmp}/out", "no input file there"),
        ("{tmp}/bad/none", "id", "{tmp}/out", "no input file there"),
        ("{tmp}/bad/truncated.parquet", "id", "{tmp}/out", "not readable as Parquet"),
        ("{tmp}/bad/text.parquet", "id", "{tmp}/out", "not readable as Parquet"),
        ("{tmp}/bad/mixed", "id", "{tmp}/out", "different schemas: column 'id' is int64"),
        ("{source}", "id", "{tmp}/bad/full", "exists and is not empty (see --overwrite)"),
        ("{source}", "id", "{tmp}/bad/full/old", "exists and is not a folder"),
        ("{source}", "id", "{tmp}/bad/full/old/out", "Not a directory"),
        ("{tmp}/bad/mixed", "id", "{tmp}/bad/mixed/out", "is inside the input"),
    ],
)
def test_bad_input_is_one_line_code_1_and_no_output(source, tmp_path, given, by, out, said):
    bad_inputs(tmp_path, source)
    before = sorted(map(str, tmp_path.rglob("*")))
    given, out = (text.format(tmp=tmp_path, source=source) for text in (given, out))
    done = run(given, "--by", by, "--out", out, "--quiet", "--workers", 1)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("laminar: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_a_disk_that_cannot_be_written(large, tmp_path):
    def small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = run(large, "--by", "a", "--out", tmp_path / "out", preexec_fn=small_files_only)
    assert done.returncode == 1
    assert "cannot write" in done.stderr.splitlines()[-1]
    assert "File too large" in done.stderr.splitlines()[-1]
    assert os.listdir(tmp_path) == []


@linux
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_it_within_a_second_and_cleans_up(large, tmp_path, number):
    arguments = command(large, "--by", "a", "--out", tmp_path / "out", "--workers", 2)

    def heed():  # also where the tests themselves run under nohup
        signal.signal(number, signal.SIG_DFL)

    with subprocess.Popen(
        arguments,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed,  # noqa: PLW1509
    ) as process:
        for line in process.stderr:
            if line.startswith("shuffling"):
                break
        assert len(os.listdir(tmp_path)) == 1
        children = _children(process.pid)
        assert len(children) == 2
        process.send_signal(number)
        started = time.monotonic()
        _, rest = process.communicate(timeout=20)
        seconds = time.monotonic() - started
    assert process.returncode == 128 + number
    assert rest.splitlines()[-1] == "laminar: interrupted; nothing was written"
    assert seconds < 1
    assert os.listdir(tmp_path) == []
    assert not any(os.path.exists(f"/proc/{pid}") for pid in children)


@linux
def test_a_signal_that_was_ignored_from_the_start_stays_ignored(source, tmp_path):
    """As with nohup, and in the background of a script."""
    line = shlex.join(command(source, "--by", "id", "--out", tmp_path / "out", "--workers", 1))
    arguments = ["bash", "-c", f"trap '' HUP; exec {line}"]
    with subprocess.Popen(
        arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline().startswith("starting")
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.startswith("3,000 rows")


def shell(tmp_path, source, rest):
    line = shlex.join(command(source, "--by", "id", "--out", tmp_path / "out", "--workers", 1))
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{line} {rest}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@linux
@pytest.mark.parametrize(
    ("rest", "code", "said"),
    [
        ("2>&1 | head -1", 0, "starting"),
        ("2>&-", 0, "3,000 rows"),
        (">&- 2>&-", 0, ""),
        ("<&- >&-", 0, "starting"),
        ("2> /dev/full", 0, "3,000 rows"),
        ("--json --quiet | true", 0, ""),
        ("--json > /dev/full", 3, "cannot be written: No space left on device; the output in"),
        ("> /dev/full 2>&1", 3, ""),
    ],
)
def test_nobody_has_to_listen(source, tmp_path, rest, code, said):
    done = shell(tmp_path, source, rest)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert len(os.listdir(tmp_path / "out")) == 16


@linux
@pytest.mark.parametrize("rest", ["2>&-", "2> /dev/full", "--quiet 2>&1 | true"])
def test_an_error_that_nobody_hears_keeps_its_code(tmp_path, rest):
    done = shell(tmp_path, tmp_path / "missing.parquet", rest)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@linux
def test_help_that_nobody_reads(tmp_path):
    for rest in ("| true", "> /dev/full"):
        line = f"{shlex.join(command('--help'))} {rest}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.stderr == ""


@linux
def test_workers_do_not_outlive_a_killed_job(large, tmp_path):
    arguments = command(large, "--by", "a", "--out", tmp_path / "out", "--workers", 2)
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("shuffling"):
                break
        workers = {os.pidfd_open(pid) for pid in _children(process.pid)}
        assert len(workers) == 2
        process.kill()
        while workers:  # a descriptor of a process is readable when the process has ended
            ended, _, _ = select.select(workers, [], [], 20)
            assert ended, "a worker outlived its job"
            for descriptor in ended:
                os.close(descriptor)
            workers -= set(ended)
    leftovers = os.listdir(tmp_path)
    assert all(name.startswith(".out.laminar-staging-") for name in leftovers)


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(text) for text in file.read().split()]


@linux
def test_a_dead_worker_is_named(large, tmp_path):
    arguments = command(large, "--by", "a", "--out", tmp_path / "out", "--workers", 2)
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("shuffling"):
                break
        victim = _children(process.pid)[1]
        os.kill(victim, signal.SIGKILL)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 1
    last = rest.splitlines()[-1]
    assert last.startswith("laminar: worker ")
    assert f"(pid {victim}) was killed by SIGKILL" in last
    assert os.listdir(tmp_path) == []


def test_any_locale_and_any_column_name(tmp_path):
    rows = pa.table({"ключ, или": [1, 2, 3], " x ": [1, 2, 3]})
    pq.write_table(rows, tmp_path / "данные.parquet")
    out = tmp_path / "вывод"
    given = (tmp_path / "данные.parquet", "--by", '"ключ, или"', "--by", '" x "', "--json")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run(*given, "--out", out, "--workers", 1, env={**os.environ, **locale})
    assert (done.returncode, json.loads(done.stdout)["output"]) == (0, str(out))
    assert pq.read_table(out).num_rows == 3
    shown = run(*given[:-1], "--out", tmp_path / "2", "--by", "нет", env={**os.environ, **locale})
    assert shown.returncode == 1
    assert "has no column" in shown.stderr.splitlines()[-1]
