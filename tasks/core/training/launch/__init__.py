"""Starting the training processes: command, environment, hostfile, and what must be installed."""
