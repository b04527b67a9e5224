"""Linear probes: the worth of frozen features, for a run and for the verb probe."""
