"""Parts of the benchmark of a pre-training's worth on other tasks."""
