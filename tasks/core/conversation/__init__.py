"""conversation.json: checking, template, labels and examples, the same from training to serving.

`records` and `reading` turn a file into conversations. `screening` keeps those that are fit to
learn from (`personal_data`, `language`, `duplicates`, `lengths`); `advice` and `picture` tell what
it found. `template` and `chat_template` turn a conversation into text, `labels` turns text into
tokens and says which of them are learned. `prepared` does all of it once, into files (`examples`,
`split`). Nothing here trains, and of the Hub nothing but a tokenizer is ever read.
"""
