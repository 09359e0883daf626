"""Moving digits, what is measured on predicted frames, and their pictures."""
