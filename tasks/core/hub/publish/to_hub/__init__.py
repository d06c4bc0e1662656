"""Publish a build to a repository on a Hub: all of it or nothing."""
