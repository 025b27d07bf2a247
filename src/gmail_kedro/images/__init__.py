"""Encoded images: decoding, and the codec-matched control."""
