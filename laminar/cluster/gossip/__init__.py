"""Gossip: who is there, and what each node tells of itself, without any server."""
