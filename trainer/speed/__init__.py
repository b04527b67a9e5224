"""Costs of a run: floating-point work, memory, hours."""
