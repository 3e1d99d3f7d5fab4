"""What a stack of slices knows that a slice cannot: where structures end, and what is misplaced."""
