"""What was released: the story of its build, and whether a model that lies here is that one."""
