"""What is said to language models: conversations, instruction texts, examples, and operations on text."""
