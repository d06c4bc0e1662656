"""What keeps collected answers from identifying people, and what deletes them."""
