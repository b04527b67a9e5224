"""What words mean: WordNet's nouns, captions to synsets, the vocabulary, the label-shard format."""
