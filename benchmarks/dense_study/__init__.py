"""Parts of the benchmark of dense tasks."""
