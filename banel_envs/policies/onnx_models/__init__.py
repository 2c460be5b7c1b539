"""Policies as ONNX models: how they are written, what is refused of a stranger's, and how they run."""
