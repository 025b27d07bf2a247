"""What a profile needs for each table of the paper, and what of it is on this machine. No model is loaded."""
