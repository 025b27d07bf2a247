"""Image-text encoders by name: CLIP, Long-CLIP, SigLIP, SynCLR."""
