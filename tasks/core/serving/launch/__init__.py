"""Starting, switching and stopping a deployment."""
