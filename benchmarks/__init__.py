"""Laminar and its peers, side by side, in one run on one machine.

Where things are: ``stream``, ``small``, ``repartition``, ``parquet`` and ``memory`` each say what
one benchmark compares; ``peers`` holds what runs in the child processes, one file per system;
``contest`` alternates the contestants, ``stats`` turns samples into ratios, ``process`` owns the
children, ``data`` the input and ``report`` the tables. Run it with ``python -m benchmarks``.
"""
