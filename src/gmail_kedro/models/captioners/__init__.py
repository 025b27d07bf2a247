"""Captioners: ClipCap and IFCap."""
