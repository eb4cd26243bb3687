"""Sessions that are killed at random moments, and what the next one finds."""
