"""Multi-label losses on sparse targets, and the classifier in chunks."""
