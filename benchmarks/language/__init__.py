"""What a real small language model does as a policy; see benchmarks/language/__main__.py."""
