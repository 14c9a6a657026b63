"""How pose networks learn."""
