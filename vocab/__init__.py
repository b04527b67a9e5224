"""The meaning of words: WordNet's nouns, captions to synsets, the vocabulary; and formats on disk that rooms share."""
