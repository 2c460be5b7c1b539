"""How a network computes the next token's distribution, one position at a time: in PyTorch or in the compiled kernel."""
