"""What is said of the tasks, measured: the table of them, what needs no oracle, what failures look like; three tasks closely."""
