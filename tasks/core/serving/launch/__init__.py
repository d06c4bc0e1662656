"""Starting, switching and ending a deployment, and the processes that it is made of."""
