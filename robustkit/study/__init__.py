"""What was asked, each option stated once, and the plan of independent cells that follows from it."""
