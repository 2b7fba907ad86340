"""The job behind ``laminar shuffle``: repartition files by key, with many processes.

From the top: ``job`` (a run), ``crew`` (its processes) and ``staging`` (its output) in the
job's process; ``worker`` with ``readers``, ``fabric``, ``holding``, ``flusher`` and ``writers``
in the others; ``protocol`` between them. Pure: ``spec``, ``budget``, ``planning.divide``,
``schema``, ``placement``, ``holding``, ``protocol``.
"""
