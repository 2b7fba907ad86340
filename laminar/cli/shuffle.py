"""``laminar shuffle``: runs the job, shows it, and turns what happens into an exit code."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import anyio

from laminar.cli.display import Display, open_display
from laminar.cli.text import summary_lines
from laminar.errors import ConfigError, LaminarError
from laminar.repartition.job import Summary, run_job
from laminar.repartition.spec import JobSpec, default_workers

EXIT_FAILURE: Final = 1
EXIT_INTERRUPTED: Final = 130


def run(arguments: argparse.Namespace) -> int:
    """Run the job of the parsed arguments; returns the exit code.

    Raises :class:`~laminar.errors.ConfigError` for arguments that make no sense.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # saves the start of threads we never use
    spec = job_spec(arguments)
    display = open_display(sys.stderr, quiet=arguments.quiet)
    code = anyio.run(_run, spec, display, arguments.json, arguments.quiet)
    if code == EXIT_INTERRUPTED:  # a thread may still wait for a slow disk: do not wait with it
        sys.stderr.flush()
        os._exit(code)
    return code


def job_spec(arguments: argparse.Namespace) -> JobSpec:
    """The job that the arguments ask for."""
    return JobSpec(
        inputs=tuple(arguments.inputs),
        by=tuple(column.strip() for column in arguments.by.split(",")),
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
        "output": summary.output,
    }


async def _run(spec: JobSpec, display: Display, as_json: bool, quiet: bool) -> int:
    interrupted = False
    outcome: Summary | None = None
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as work:

            async def watch() -> None:
                nonlocal interrupted
                with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    async for _ in signals:
                        if interrupted:  # asked twice: no cleaning up
                            os._exit(EXIT_INTERRUPTED)
                        interrupted = True
                        work.cancel()

            tasks.start_soon(watch)
            try:
                outcome = await run_job(spec, display.show)
            except ConfigError:
                raise
            except LaminarError as error:
                display.close()
                print(f"laminar: {_one_line(error)}", file=sys.stderr)
        tasks.cancel_scope.cancel()
    display.close()
    if outcome is None:
        if interrupted:
            print("laminar: interrupted; nothing was written", file=sys.stderr)
            return EXIT_INTERRUPTED
        return EXIT_FAILURE
    _tell(outcome, as_json, quiet)
    return 0


def _one_line(error: LaminarError) -> str:
    return " ".join(str(error).split())


def _tell(summary: Summary, as_json: bool, quiet: bool) -> None:
    for note in summary.notes:
        print(f"laminar: note: {note}", file=sys.stderr)
    if as_json:
        print(json.dumps(json_object(summary)))
    elif not quiet:
        print("\n".join(summary_lines(summary)))
