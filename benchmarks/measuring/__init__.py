"""The parts that all benchmarks share: the clocks, and the machine with its folder of real data."""
