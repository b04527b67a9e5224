"""Weights for others, and the weights of others."""
