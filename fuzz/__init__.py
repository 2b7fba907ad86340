"""Coverage-guided fuzzing of what reads a stranger's bytes: ``make fuzz``.

A target is a module of :mod:`fuzz.targets`: ``check(data)`` raises, or takes the process down,
when an invariant is broken, and ``seeds()`` names well-formed inputs. Atheris makes up the
inputs (:mod:`fuzz.engine`); the tests run the kept corpus through the same functions without it.
See ``docs/design/fuzzing.md``.
"""
