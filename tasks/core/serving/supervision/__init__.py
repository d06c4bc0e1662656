"""supervisord: its configuration, its control socket, and the processes that it keeps alive."""
