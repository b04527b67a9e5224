"""Label shards keyed by image tars."""
