"""Publish a build to a repository of a Hub: all of it or nothing."""
