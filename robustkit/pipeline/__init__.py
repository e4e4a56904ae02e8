"""A whole evaluation, end to end: the checked request, the models under test, the run, its results, the self-test."""
