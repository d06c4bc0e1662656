"""Directories and buckets by URL, through fsspec, with their failures in our own words."""
