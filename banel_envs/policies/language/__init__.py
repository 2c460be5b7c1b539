"""Policies that answer a prompt: a causal language model of Hugging Face (extra `llm`), or a transformer of this package."""
