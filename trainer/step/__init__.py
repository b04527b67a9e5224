"""One optimisation step, on one process or many, and the metrics that it reports."""
