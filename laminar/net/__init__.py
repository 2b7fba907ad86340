"""Streams: the only place that touches a socket."""
