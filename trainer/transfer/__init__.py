"""What the pre-training is for: results on other tasks, by the paper's protocols."""
