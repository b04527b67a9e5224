"""Captions to label shards, at any scale, on Spark."""
