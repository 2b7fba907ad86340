"""aiohttp runs on asyncio only."""

import pytest

from tests.conftest import BACKENDS


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request):
    return BACKENDS[request.param]


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog):
    """Neither what was asked nor that somebody hung up is worth a line."""
    yield
    assert not caplog.records
