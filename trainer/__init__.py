"""Images and label shards to pre-trained vision transformers, on torch."""
