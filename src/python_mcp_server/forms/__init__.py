"""The form of a question: its fields, the whole of it with the answers to it, and what makes one."""
