"""What training and refining cost, in one run on this machine, as ratios. Never run by tests."""
