"""Addresses as text: ``host:port``."""

from __future__ import annotations

import ipaddress

from laminar.errors import ConfigError


def parse_addr(addr: str) -> tuple[str, int]:
    """Split ``host:port`` (``[::1]:80`` for IPv6).

    Raises :class:`~laminar.errors.ConfigError` when it is not of that form.
    """
    if not isinstance(addr, str):
        raise ConfigError(f"an address is a string like '127.0.0.1:4000', got {addr!r}")
    host, colon, port = addr.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"an IPv6 address needs brackets, like [::1]:4000, got {addr!r}")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"an address looks like 127.0.0.1:4000, got {addr!r}")
    return host, int(port)


def format_addr(host: str, port: int) -> str:
    """The inverse of :func:`parse_addr`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reaches_beyond_loopback(addr: str) -> bool:
    """Whether other machines can connect to the bound address ``addr``.

    A host that is no IP address is not one of the system's network.
    """
    host, _ = parse_addr(addr)
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return not (mapped or ip).is_loopback


def is_unspecified(addr: str) -> bool:
    """Whether ``addr`` stands for all of a machine's addresses, as ``0.0.0.0:4000`` does.

    Nobody can connect to such an address.
    """
    host, _ = parse_addr(addr)
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
