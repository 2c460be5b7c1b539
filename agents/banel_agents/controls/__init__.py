"""Controls: what a learner has to beat, and what shows where a gain comes from."""
