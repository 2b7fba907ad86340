"""What runs inside the child processes: one module per system, heavy imports and all."""
