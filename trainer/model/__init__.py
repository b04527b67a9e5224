"""The vision transformer as a step calls it: its images, what is dropped of it at random, its classifier."""
