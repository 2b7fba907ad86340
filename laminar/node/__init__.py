"""One node of a cluster: the only place that wires discovery and data plane together."""
