"""A real etcd of one member, to be killed and started again."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

START_LIMIT_S = 30

missing = pytest.mark.skipif(
    shutil.which("etcd") is None,
    reason="NOT TESTED AGAINST etcd: no `etcd` on the path (Debian: apt-get install etcd-server)",
)


class EtcdServer:
    """Listens on loopback ports of its own, and keeps its data in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_ports(2)
        self.process = None
        self.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def start(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in self.ports)
        command = ["etcd", "--data-dir", str(self.folder / "data"), "--logger=zap"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"default={peer}"]
        command += ["--heartbeat-interval=20", "--election-timeout=200"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait_ready()

    def _wait_ready(self) -> None:
        end = time.monotonic() + START_LIMIT_S
        while True:
            try:
                with urlopen(f"{self.endpoint}/health", timeout=1) as answer:
                    if b'"true"' in answer.read():
                        return
            except (URLError, OSError) as error:
                if self.process.poll() is not None or time.monotonic() > end:
                    log = (self.folder / "log").read_text()[-2000:]
                    raise RuntimeError(f"etcd did not start: {log}") from error
            time.sleep(0.02)

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """With a goodbye."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def forget(self) -> None:
        """Lose all data; the server is not running."""
        shutil.rmtree(self.folder / "data")


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
