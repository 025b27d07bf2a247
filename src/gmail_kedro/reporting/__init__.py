"""Turns results into things to look at: figures and the summary."""
