"""Images and label shards to pre-trained image models, on torch."""
