"""Pages, charts and text that both programs show."""
