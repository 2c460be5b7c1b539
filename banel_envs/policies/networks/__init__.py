"""Networks that a TorchPolicy can hold: one module an architecture."""
