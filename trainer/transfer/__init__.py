"""Results of pre-trained models on other tasks, by the paper's protocols."""
