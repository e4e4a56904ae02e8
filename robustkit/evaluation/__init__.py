"""One cell: craft, verify, record; and what runs the cells of a plan side by side."""
