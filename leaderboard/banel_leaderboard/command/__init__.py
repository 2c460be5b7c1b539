"""The command `banel`: its options, and one function a subcommand."""
