"""The command line: ``laminar``."""
