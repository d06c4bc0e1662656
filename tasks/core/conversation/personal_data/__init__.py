"""E-mail addresses and numbers that identify a person: found in a text by their form alone."""
