"""Policies in safetensors files, written and read without pickle."""
