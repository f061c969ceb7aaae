"""What teaches: checks of a reader's own code, and explanatory drawings."""
