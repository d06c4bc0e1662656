"""A model's tokenizer: loaded safely, told apart from another, checked against its model."""
