"""Policies that a causal language model of Hugging Face computes (extra `llm`)."""
