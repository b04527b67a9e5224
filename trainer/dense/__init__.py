"""Dense tasks: a class for each pixel of an image, and boxes and masks of its objects."""
