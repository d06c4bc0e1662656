"""conversation.json: reading, template, labels and split, the same from training to serving.

`records` and `reading` turn a file into checked conversations, `template` and `chat_template` turn
a conversation into text, `labels` turns text into tokens and says which of them are learned,
`examples` keeps those in a file. Nothing here downloads, and nothing trains.
"""
