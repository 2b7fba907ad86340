"""What nodes have published in etcd; with a real one it is read in test_doctor.py."""

import sys

import pytest

from laminar.config import EtcdConfig
from laminar.errors import ConfigError
from laminar.node.published import published
from tests.wiring import limited


@limited
async def test_the_extra_that_it_takes_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "laminar.cluster.etcd.client", None)
    with pytest.raises(ConfigError, match=r"pip install 'laminar-fabric\[etcd\]'"):
        await published(EtcdConfig())
