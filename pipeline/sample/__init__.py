"""The sample: images with captions, and the truth about both, drawn from a seed without a network."""
