"""What runs the networks: torch, or a library that runs them exported."""
