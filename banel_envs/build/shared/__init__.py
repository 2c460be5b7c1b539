"""What several builds of assets need."""
