"""What frozen features are worth: a linear classifier trained on them."""
