"""cardiac-vae: learn what hearts look like, then check, refine and quantify cardiac MRI masks."""
