"""The networks that a TorchPolicy can hold. There is one module for each architecture."""
