from pathlib import Path

import pytest

from laminar.errors import ConfigError
from laminar.repartition.spec import MEMORY_LIMIT_BYTES_MIN, JobSpec, default_workers


def spec(**changes):
    return JobSpec(**{"inputs": ("in",), "by": ("id",), "out": Path("out"), **changes})


def test_defaults():
    plain = spec()
    assert (plain.partitions, plain.memory_limit_bytes) == (16, 1 << 30)
    assert plain.workers == default_workers() >= 1
    assert plain.codec == "snappy"
    assert spec(output_format="arrow").codec == "none"
    assert spec(compression="zstd").codec == "zstd"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": ()}, "at least one input"),
        ({"inputs": ("",)}, "at least one input"),
        ({"by": ()}, "--by names"),
        ({"by": ("id", "")}, "--by names"),
        ({"by": ("id", "id")}, "'id' twice"),
        ({"partitions": 0}, "--partitions is between 1 and 65,536, got 0"),
        ({"partitions": 65_537}, "--partitions"),
        ({"workers": 0}, "--workers"),
        ({"memory_limit_bytes": MEMORY_LIMIT_BYTES_MIN - 1}, "--memory-limit is at least 64MiB"),
        (
            {"partitions": 1000, "workers": 2, "memory_limit_bytes": 128 << 20},
            "at least 282MiB per worker for 1,000 partitions on 2 workers, got 128.0 MiB",
        ),
        ({"compression": "zip"}, "--compression for parquet is one of snappy"),
        ({"compression": "snappy", "output_format": "arrow"}, "--compression for arrow"),
        ({"output_format": "csv"}, "--format"),
        ({"out": Path("s3://bucket/x")}, "local folder"),
    ],
)
def test_nonsense_is_refused(changes, said):
    with pytest.raises(ConfigError) as refused:
        spec(**changes)
    assert said in str(refused.value)
