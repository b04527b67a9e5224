"""Parts of the benchmarks of the feed: corpora, our side and its peers."""
