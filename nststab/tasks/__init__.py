"""What a user asks for, each one function."""
