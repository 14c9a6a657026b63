"""How the stages' networks learn."""
