"""What several tasks need: grammars, calculi and patches of images."""
