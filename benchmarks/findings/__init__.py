"""What is found out about learning from failure, a command each: every figure of docs and docstrings on it comes from one."""
