"""What a run writes down: its log, its account, its directory, its page."""
