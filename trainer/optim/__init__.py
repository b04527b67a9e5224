"""Optimisers, learning rates, the moving average of the weights."""
