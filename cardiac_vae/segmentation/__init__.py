"""The image segmenter that makes the initial masks: network, augmentation, training, inference."""
