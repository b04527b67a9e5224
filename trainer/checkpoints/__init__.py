"""Checkpoints: everything a run needs to go on as if it had not been stopped."""
