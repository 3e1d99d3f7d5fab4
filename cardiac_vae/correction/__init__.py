"""What a segmenter draws, corrected by a network that learnt from its mistakes."""
