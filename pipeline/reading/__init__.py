"""Input files to batches of rows.

In: the options of a job (`config.Label`): paths, folders and globs, and how captions are stored.

Out: an `InputFiles`, the files with their format and the names of their shards (`inputs.inputs_of`); a `ReadOptions`,
how to read them, checked against some of the files (`captions.reading_of`); and for each `Piece` of a file, batches of
shard, key, captions, named synsets and reason (`captions.read_piece`; columns in `rows.ROWS`). A row that cannot be
labelled is in the batches too, with the reason.
"""
