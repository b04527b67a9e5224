"""What a run costs: floating-point work, memory, hours."""
