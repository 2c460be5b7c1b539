"""Who is compared with whom: proved runs as rows, the rows of a task ranked, and the agents across tasks."""
