"""Models of others: read without trusting the file, run as they were meant to be, evaluated, reported."""
