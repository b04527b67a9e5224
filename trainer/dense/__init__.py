"""Dense predictions of a pre-trained backbone: feature maps, masks, boxes, and their measures."""
