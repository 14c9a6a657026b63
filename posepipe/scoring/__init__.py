"""Stage 3: poses and ground truth to a score card."""
