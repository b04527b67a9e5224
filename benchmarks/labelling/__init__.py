"""Parts of the benchmarks of labels: texts to label."""
