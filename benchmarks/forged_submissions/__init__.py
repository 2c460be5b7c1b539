"""Bad submissions, made by hand and by mutation, and what `banel check` says of them."""
