"""``laminar shuffle``: runs the job, shows it, and turns what happens into an exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import anyio

from laminar.cli.arguments import columns, utf8
from laminar.cli.display import BestEffort, Display, open_display
from laminar.cli.signals import EXIT_SIGNAL, until_signal
from laminar.cli.streams import complain, settle
from laminar.cli.text import one_line, summary_lines
from laminar.errors import ConfigError, LaminarError
from laminar.repartition.job import Summary, run_job
from laminar.repartition.spec import JobSpec, default_workers

EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_UNTOLD: Final = 3


def run(arguments: argparse.Namespace) -> int:
    """Run the job of the parsed arguments; returns the exit code.

    Raises :class:`~laminar.errors.ConfigError` for arguments that make no sense.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # saves the start of threads we never use
    spec = job_spec(arguments)
    display = BestEffort(open_display(sys.stderr, quiet=arguments.quiet), sys.stderr)
    code = anyio.run(_run, spec, display, arguments.json, arguments.quiet)
    if code > EXIT_SIGNAL:  # a thread may still wait for a slow disk: do not wait with it
        settle()
        os._exit(code)
    return code


def job_spec(arguments: argparse.Namespace) -> JobSpec:
    """The job that the arguments ask for."""
    utf8(arguments.out, "--out")
    return JobSpec(
        inputs=tuple(utf8(given, "INPUT") for given in arguments.inputs),
        by=tuple(column for by in arguments.by for column in columns(utf8(by, "--by"))),
        out=Path(arguments.out),
        partitions=arguments.partitions,
        workers=default_workers() if arguments.workers is None else arguments.workers,
        memory_limit_bytes=arguments.memory_limit,
        output_format=arguments.format,
        compression=arguments.compression,
        overwrite=arguments.overwrite,
    )


def json_object(summary: Summary) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "rows": summary.rows,
        "seconds": round(summary.seconds, 3),
        "rows_per_second": round(summary.rows_per_second),
        "bytes_shuffled": summary.bytes_shuffled,
        "workers": summary.workers,
        "partitions": summary.partitions,
        "peak_rss_bytes": summary.peak_rss_bytes,
        "output": utf8(summary.output, "--out"),
    }


async def _run(spec: JobSpec, display: Display, as_json: bool, quiet: bool) -> int:
    outcome: Summary | None = None

    async def work() -> None:
        nonlocal outcome
        try:
            outcome = await run_job(spec, display.show)
        except ConfigError:
            raise
        except LaminarError as error:
            display.close()
            complain(f"laminar: {one_line(error)}")

    stopped_by = await until_signal(work)
    display.close()
    if outcome is not None:
        return _tell(outcome, as_json, quiet)
    if stopped_by is not None:
        complain("laminar: interrupted; nothing was written")
        return EXIT_SIGNAL + stopped_by
    return EXIT_FAILURE


def _tell(summary: Summary, as_json: bool, quiet: bool) -> int:
    """Say what was done; returns the exit code."""
    for note in summary.notes:
        complain(f"laminar: note: {note}")
    try:
        if as_json:
            print(json.dumps(json_object(summary)), flush=True)
        elif not quiet:
            print("\n".join(summary_lines(summary)), flush=True)
    except BrokenPipeError:  # whoever would have read it has left
        return EXIT_OK
    except OSError as error:
        what = f"the summary cannot be written: {error.strerror}"
        complain(f"laminar: {what}; the output in {summary.output} is complete")
        return EXIT_UNTOLD
    return EXIT_OK
