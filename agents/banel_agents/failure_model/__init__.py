"""BaNEL and its relatives: agents that fit a model to the failures and turn away from it."""
