"""What a heart in short axis must look like, and what is measured on it; arrays in, numbers out."""
