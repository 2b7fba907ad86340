"""What operators ask a node over HTTP: is it well, whom does it see, and all its numbers."""
