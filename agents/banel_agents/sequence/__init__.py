"""Policy gradients on the reward of whole sequences."""
