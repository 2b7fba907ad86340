"""Streams and datagrams: the only place that touches a socket."""
