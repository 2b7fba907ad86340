import argparse
import os
import shlex
import subprocess
import sys
import time

import pytest

import laminar
from laminar.cli.main import build_parser, main, size
from laminar.cli.options import node_settings


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
        "node",
        "node --id 'a b'",
        "node --id a --listen nowhere",
        "node --id a --listen 0.0.0.0:0",
        "node --id a --listen 127.0.0.1:0 --admin nowhere",
        "node --id a --seed nowhere",
        "node --id a --cluster ''",
        "node --id a --keys missing",
        "node --config missing",
        "node a",
        "members --admin nowhere",
        "members a",
        "kv",
        "kv get a",
        "kv nope",
        "kv scan --admin 127.0.0.1",
        "doctor",
        "doctor --seed nowhere",
        "doctor --seed 127.0.0.1:1 --timeout 0",
        "doctor --seed 127.0.0.1:1 --timeout soon",
        "keys",
        "keys new",
        "keys show missing",
        "keys rotate --admin nowhere",
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


@pytest.mark.parametrize(
    ("line", "example"),
    [
        ("--help", "laminar shuffle orders/ --by customer_id --out by_customer"),
        ("shuffle --help", "laminar shuffle orders/ --by customer_id --out by_customer"),
        ("node --help", "laminar node --id a --listen 127.0.0.1:7946"),
        ("members --help", "laminar members --watch"),
        ("kv --help", "laminar kv get a shuffle:addr"),
        ("doctor --help", "laminar doctor --config node.toml"),
        ("keys --help", "laminar keys rotate"),
    ],
)
def test_help_has_an_example(line, example, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(line.split())
    assert exit_.value.code == 0
    assert f"  {example}\n" in capsys.readouterr().out


def test_every_command_is_listed(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out
    for command in ("shuffle", "node", "members", "kv", "doctor", "keys"):
        assert f"\n    {command} " in listed


def test_flags_of_a_node_are_settings():
    line = (
        "node --id a --listen 10.0.0.1:7946 --advertise 1.2.3.4:7946 --seed b:1 --seed c:2 "
        "--cluster prod --keys k --state s --allow-unauthenticated"
    )
    assert node_settings(build_parser().parse_args(line.split())) == {
        "node": "a",
        "listen": "10.0.0.1:7946",
        "advertise": "1.2.3.4:7946",
        "seeds": ["b:1", "c:2"],
        "shuffle.cluster": "prod",
        "shuffle.allow_unauthenticated": True,
        "keys_file": "k",
        "state_file": "s",
    }
    assert node_settings(build_parser().parse_args(["node"])) == {}


def test_the_environment_says_whom_to_ask(monkeypatch):
    assert build_parser().parse_args(["members"]).admin == "127.0.0.1:7947"
    monkeypatch.setenv("LAMINAR_ADMIN", "127.0.0.1:1234")
    assert build_parser().parse_args(["members"]).admin == "127.0.0.1:1234"
    assert build_parser().parse_args(["members", "--admin", "b:1"]).admin == "b:1"


@pytest.mark.parametrize("line", [["members"], ["kv", "scan"], ["keys", "rotate"]])
def test_a_node_without_admin_server_cannot_be_asked(line, monkeypatch, capsys):
    monkeypatch.setenv("LAMINAR_ADMIN", "none")
    with pytest.raises(SystemExit) as exit_:
        main(line)
    assert exit_.value.code == 2
    told = capsys.readouterr().err
    assert "nobody can be asked at 'none', as LAMINAR_ADMIN says: give --admin HOST:PORT" in told
    assert told.count("\n") == 1
    assert build_parser().parse_args([*line, "--admin", "b:1"]).admin == "b:1"
    monkeypatch.delenv("LAMINAR_ADMIN")
    with pytest.raises(SystemExit):
        main([*line, "--admin", "none"])
    assert "nobody can be asked at 'none': give" in capsys.readouterr().err


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
    for heavy in ("pyarrow", "numpy", "polars", "aiohttp", "anyio", "asyncio", "msgpack"):
        assert f"'{heavy}'" not in done.stderr
    assert best < 0.3
