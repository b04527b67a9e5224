"""Parts of the benchmark that changes single bytes of files."""
