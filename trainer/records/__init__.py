"""Records of a run: its log, its account, its directory, its page."""
