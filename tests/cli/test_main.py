import argparse
import os
import shlex
import subprocess
import sys
import time

import pytest

import laminar
from laminar.cli.main import build_parser, main, size


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("1024", 1024),
        ("512MiB", 512 << 20),
        ("512 mib", 512 << 20),
        ("1.5g", 3 << 29),
        ("2GB", 2_000_000_000),
        ("64k", 64 << 10),
        ("7b", 7),
    ],
)
def test_sizes(text, bytes_):
    assert size(text) == bytes_


@pytest.mark.parametrize("text", ["", "much", "1 XiB", "-1MiB", "1e9", "MiB"])
def test_nonsense_sizes(text):
    with pytest.raises(argparse.ArgumentTypeError, match="not a size"):
        size(text)


def test_defaults():
    arguments = build_parser().parse_args(["shuffle", "in", "--by", "a", "--out", "o"])
    assert arguments.inputs == ["in"]
    assert (arguments.partitions, arguments.workers, arguments.memory_limit) == (16, None, 1 << 30)
    assert (arguments.compression, arguments.format) == (None, "parquet")
    assert not any((arguments.overwrite, arguments.json, arguments.quiet))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nope",
        "shuffle",
        "shuffle in --by a",
        "shuffle in --out o",
        "shuffle in --by a --out o --nope",
        "shuffle in --by a --out o --partitions many",
        "shuffle in --by a --out o --partitions 0",
        "shuffle in --by a --out o --workers 0",
        "shuffle in --by a,,b --out o",
        "shuffle in --by a,a --out o",
        "shuffle in --by a --out o --memory-limit lots",
        "shuffle in --by a --out o --memory-limit 1MiB",
        "shuffle in --by a --out o --compression zip",
        "shuffle in --by a --out o --format xml",
        "shuffle in --by a --out o --format arrow --compression snappy",
        "shuffle in --by a --out s3://bucket/o",
        "shuffle in --by a --out '' --overwrite",
        "shuffle in --by a --out ' ' --overwrite",
    ],
)
def test_bad_usage_is_one_line_and_code_2(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(shlex.split(line))
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("laminar")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("line", ["--help", "shuffle --help"])
def test_help_has_an_example(line, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(line.split())
    assert exit_.value.code == 0
    assert "laminar shuffle orders/ --by customer_id --out by_customer" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"laminar {laminar.__version__}\n"


def test_help_imports_nothing_heavy_and_is_quick():
    code = (
        "import sys\nsys.argv = ['laminar', '--help']\n"
        "from laminar.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        best = min(best, time.perf_counter() - started)
    for heavy in ("pyarrow", "numpy", "polars", "anyio", "asyncio", "msgpack"):
        assert f"'{heavy}'" not in done.stderr
    assert best < 0.3
