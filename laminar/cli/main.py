"""``laminar``: parses the command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

import laminar
from laminar.cli.options import add_commands
from laminar.cli.streams import complain, open_closed, settle
from laminar.errors import ConfigError

EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

EXAMPLES: Final = """\
examples:
  laminar shuffle orders/ --by customer_id --out by_customer
  laminar node --id a --listen 127.0.0.1:7946
  laminar members --watch
  laminar doctor --seed 127.0.0.1:7946

`laminar COMMAND --help` has more.
"""

SHUFFLE_EXAMPLES: Final = """\
examples:
  laminar shuffle orders/ --by customer_id --out by_customer
  laminar shuffle 'logs/2026-*.parquet' --by host,service --out by_host \\
      --partitions 64 --compression zstd --memory-limit 512MiB
  laminar shuffle s3://bucket/events --by user --out by_user --json

exit codes: 0 done, 1 failed (and no output), 2 usage, 3 done but the summary could not be
written, 129 130 143 stopped by SIGHUP, SIGINT or SIGTERM (and no output)
"""


class _Parser(argparse.ArgumentParser):
    """Reports bad usage in one line instead of the whole synopsis."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def size(text: str) -> int:
    """``512MiB``, ``1GiB``, ``2g`` or plain bytes, as bytes; ``MB`` and ``GB`` are decimal."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"not a size: {text!r} (write 512MiB or 1GiB)")
    number, unit, binary = match.groups()
    decimal = text.strip().lower().endswith("b") and unit and not binary
    base = 1000 if decimal else 1024
    return int(float(number) * base ** _POWERS[unit.lower()])


def folder(text: str) -> str:
    """A path; an empty one, as of a variable that was never set, would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a folder has a name, and this is empty")
    return text


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="laminar",
        description="A shuffle fabric for Arrow record batches.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"laminar {laminar.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_shuffle(commands)
    add_commands(commands.add_parser)
    return parser


def _add_shuffle(commands: argparse._SubParsersAction[_Parser]) -> None:
    shuffle = commands.add_parser(
        "shuffle",
        help="repartition Parquet, Arrow or CSV files by key",
        description="Repartition files by the hash of one or more columns: every row ends up in "
        "exactly one partition, and all rows with equal keys in the same one. The schema stays "
        "as it is, and folders named like day=3 add a column each. The output appears at the end, "
        "whole or not at all.",
        epilog=SHUFFLE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = shuffle.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="Parquet, Arrow IPC or CSV files, folders, globs, or URIs (file:, s3:, gs:, hdfs:)",
    )
    add(
        "--by",
        required=True,
        action="append",
        metavar="COL[,COL]",
        help="the key: one or more columns, also as several --by; quote a name with commas or "
        "outer spaces like in CSV: --by '\"a, b\",c'",
    )
    add(
        "--out",
        required=True,
        type=folder,
        metavar="DIR",
        help="output folder; must be empty or not exist",
    )
    add("--partitions", type=int, default=16, metavar="N", help="how many files (default 16)")
    add("--workers", type=int, metavar="N", help="worker processes (default: one per core)")
    add(
        "--memory-limit",
        type=size,
        default=1 << 30,
        metavar="SIZE",
        help="what one worker may hold of rows (default 1GiB)",
    )
    add(
        "--compression",
        metavar="CODEC",
        help="parquet: snappy (default), zstd, lz4, gzip, brotli, none; "
        "arrow: none (default), lz4, zstd",
    )
    add("--format", default="parquet", choices=["parquet", "arrow"], help="of the output")
    add("--overwrite", action="store_true", help="replace an earlier output of this command")
    add("--json", action="store_true", help="print one JSON object instead of a summary")
    add("--quiet", action="store_true", help="no progress and no summary")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    open_closed()
    try:
        arguments = build_parser().parse_args(argv)
        command = import_module(f"laminar.cli.{arguments.command}")  # heavy: after the parsing
        code: int = command.run(arguments)
        return code
    except ConfigError as error:
        complain(f"laminar: {error}")
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        settle()
