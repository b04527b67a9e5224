"""The report of a label directory."""
