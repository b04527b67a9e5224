"""Data sets of other tasks, as they lie on disk: images with their classes."""
