"""FastChat's conversation templates: rendered to text, and translated to Jinja for other tools."""
