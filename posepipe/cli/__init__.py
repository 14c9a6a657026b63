"""The commands: options, progress bars and error text; no logic."""
