"""A node's certificate, its key and whom it trusts: read from files, again when they change."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from laminar.config import TlsConfig
from laminar.errors import ConfigError
from laminar.net.statistics import CertificateStatistics


class Credentials:
    """A node's certificate, key and authorities, read again when the files change.

    Raises :class:`~laminar.errors.ConfigError` when they cannot be used at first.
    """

    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        self._reloads = 0
        self._failures = 0
        self._last_failure: str | None = None
        self._seen = self._signature()
        self._contexts = _contexts(config)

    def context(self, *, server_side: bool) -> ssl.SSLContext:
        """What the next connection is to use."""
        signature = self._signature()
        if signature != self._seen:
            self._seen = signature
            try:
                self._contexts = _contexts(self._config)
            except ConfigError as error:
                self._failures += 1
                self._last_failure = str(error)
            else:
                self._reloads += 1
                self._last_failure = None
        return self._contexts[server_side]

    def statistics(self) -> CertificateStatistics:
        """A snapshot."""
        return CertificateStatistics(self._reloads, self._failures, self._last_failure)

    def _signature(self) -> list[tuple[int, int, int] | None]:
        """What changes when a file does."""
        found: list[tuple[int, int, int] | None] = []
        for path in (self._config.certificate, self._config.key, self._config.ca):
            try:
                status = Path(path).stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return found


def _contexts(config: TlsConfig) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the side that connects, and for the one that accepts."""
    sides = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context in sides:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # nodes move between hosts: see certified()
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET
        try:
            context.load_cert_chain(config.certificate, config.key, password=_refuse_encrypted)
        except OSError as error:  # of which ssl's are
            raise ConfigError(
                f"TlsConfig: the certificate {config.certificate} and the key {config.key} cannot "
                f"be used ({reason_of(error)}); they are PEM files that belong together"
            ) from error
        try:
            context.load_verify_locations(config.ca)
        except OSError as error:
            raise ConfigError(
                f"TlsConfig: the authorities in {config.ca} cannot be used ({reason_of(error)}); "
                "it is a PEM file of at least one certificate"
            ) from error
    sides[1].num_tickets = 0
    return sides


def _refuse_encrypted() -> NoReturn:
    raise ConfigError("TlsConfig: the key is encrypted, and there is nobody to ask: decrypt it")


def reason_of(error: OSError) -> str:
    """What OpenSSL, or the system, calls what went wrong."""
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return error.strerror or str(error)
