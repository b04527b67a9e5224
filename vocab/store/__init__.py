"""Files and folders that both programs keep on disk."""
