"""Publish a build: to a repository of a Hub, or to a directory or bucket."""
