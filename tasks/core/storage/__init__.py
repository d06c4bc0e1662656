"""Directories and buckets by URL, through fsspec, with their errors explained."""
