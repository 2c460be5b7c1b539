"""Tasks whose sequences are texts: worked solutions of word problems, by a shipped model or by one that is brought."""
