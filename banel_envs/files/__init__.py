"""Files that somebody else made, read without trust in what they claim."""
