"""The measure: success rates of policies, exact or estimated, with what bounds their error."""
