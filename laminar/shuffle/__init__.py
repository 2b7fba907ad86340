"""The data plane: messages, frames, windows, sender, receiver, exchange, partitioning."""
