"""What segmenters draw, corrected by a network that learnt from their mistakes."""
