"""What tests of Laminar and of programs built on it share; nothing in Laminar imports it.

- :mod:`laminar.testing.kv`: ``check_kv``, the contract of a ``ClusterKv``.
- :mod:`laminar.testing.stream`: ``check_stream``, the contract of a network's streams.
- :mod:`laminar.testing.network`: ``SimulatedNetwork``, hosts and connections in memory on which
  things go wrong; :mod:`laminar.testing.faults` says which and how often.
- :mod:`laminar.testing.simulation`: ``simulate``, which runs a program in virtual time, the same
  way for the same seed. It needs trio: ``pip install 'laminar-fabric[testing]'``.
- :mod:`laminar.testing.certificates`: an ``Authority`` that certifies nodes, for TLS in tests.
"""
