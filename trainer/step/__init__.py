"""One optimisation step, on one process or many, and what is heard of it."""
