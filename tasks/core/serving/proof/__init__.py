"""What an engine must prove before it gets traffic: the build, the template, the edit."""
