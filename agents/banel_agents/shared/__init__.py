"""What several agents need."""
