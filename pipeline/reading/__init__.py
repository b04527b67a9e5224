"""Input files to batches of rows."""
