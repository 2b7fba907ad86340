"""The job behind ``laminar shuffle``: files in, files out, by key, on all cores."""
