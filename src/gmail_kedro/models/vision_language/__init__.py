"""Vision-language models and their language models: LLaVA, LLaMA-3."""
