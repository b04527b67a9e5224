"""The image model, and what a step does around it: augmentation, dropping, mixing, classifier and loss."""
