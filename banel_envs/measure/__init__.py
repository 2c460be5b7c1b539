"""Success rates of policies, exact or estimated, with bounds on their error; and checks that a policy is a probability."""
