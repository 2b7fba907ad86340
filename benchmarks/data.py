"""The input: TPC-H lineitem from tpchgen-cli, made once and kept in a folder."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

from benchmarks.process import PeerMissing

GENERATE_TIMEOUT_SECONDS = 1200


def lineitem(cache: Path, scale: float) -> Path:
    """The folder that holds lineitem at this scale factor as Parquet (snappy).

    Raises :class:`~benchmarks.process.PeerMissing` when the generator is not installed.
    """
    folder = cache / f"lineitem-sf{scale:g}"
    if not folder.exists():
        aside = cache / f"{folder.name}.unfinished"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        command = [_generator(), "parquet", "--scale-factor", f"{scale:g}", "--tables", "lineitem"]
        command += ["--compression", "SNAPPY", "--output-dir", str(aside), "--quiet"]
        subprocess.run(command, check=True, timeout=GENERATE_TIMEOUT_SECONDS)
        aside.rename(folder)
    return folder


def lineitem_plain_strings(cache: Path, scale: float) -> Path:
    """The same rows with ``string`` where tpchgen-cli wrote ``string_view``.

    For the peers that refuse view types.
    """
    folder = cache / f"lineitem-sf{scale:g}-strings"
    if not folder.exists():
        import pyarrow as pa
        import pyarrow.parquet as pq

        aside = cache / f"{folder.name}.unfinished"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for source in sorted(lineitem(cache, scale).glob("*.parquet")):
            with pq.ParquetFile(source) as file:
                schema = pa.schema([_without_view(field) for field in file.schema_arrow])
                with pq.ParquetWriter(aside / source.name, schema) as writer:
                    for group in range(file.num_row_groups):
                        writer.write_table(file.read_row_group(group).cast(schema))
        aside.rename(folder)
    return folder


def _without_view(field):  # type: ignore[no-untyped-def]
    import pyarrow as pa

    view = pa.types.is_string_view(field.type)
    return pa.field(field.name, pa.string() if view else field.type, field.nullable)


def _generator() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
    found = str(beside) if beside.exists() else shutil.which("tpchgen-cli")
    if found is None:
        raise PeerMissing("tpchgen-cli is not installed")
    return found
