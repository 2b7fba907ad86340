"""Laminar and its peers, side by side, in one run on one machine.

Where things are: ``stream``, ``small``, ``repartition``, ``parquet``, ``memory`` and the like each
say what one benchmark compares; ``peers`` holds what runs in the child processes, one file per
system; ``contest`` alternates the contestants, ``stats`` turns samples into ratios, ``process``
owns the children, ``data`` the input and ``report`` the tables. For ``gossip``, ``ordeal`` is what
happens to the agents, ``sightings`` what they make of it and ``namespace`` their network. Run it
with ``python -m benchmarks``.
"""
