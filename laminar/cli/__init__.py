"""The command line. ``main`` parses, the commands' modules load what they need when they run."""
