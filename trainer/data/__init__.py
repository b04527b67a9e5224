"""Image tars and label shards to batches on the device; docs/feeding.md explains how."""
