"""Text-to-image generators by name: Stable Diffusion, FLUX."""
