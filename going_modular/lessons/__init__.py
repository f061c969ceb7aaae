"""What teaches: checks of a reader's own code, explanatory drawings and charts."""
