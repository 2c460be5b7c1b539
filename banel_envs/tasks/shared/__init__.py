"""Code that several tasks use: a grammar, a calculus and patches of images."""
