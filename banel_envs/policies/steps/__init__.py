"""How a network takes its next step: in PyTorch, or in the compiled kernel."""
