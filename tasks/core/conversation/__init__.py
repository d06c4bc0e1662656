"""Conversation data: read, checked and tokenized by the same rules from training to serving.

`records` is what everything here is about: a conversation, or why a record is not one. `formats`
tells the formats of other tools apart, and `preferences` is a conversation with two answers.

- `reading` turns files into records, in bounded memory.
- `checking` keeps the records that are fit to train on, and reports the others with a remedy.
- `personal_data` finds e-mail addresses and numbers that identify a person.
- `template` turns a conversation into text, `tokenizer` loads what divides that text, and
  `examples` turns it into tokens and labels, in files.
- `prepared` does all of this once for every training run that asks for the same; `estimate` guesses
  lengths for a plan.

Nothing here trains, and nothing but a tokenizer is ever read from the Hub. The directions between
these rooms are a contract of import-linter, in `pyproject.toml`.
"""
