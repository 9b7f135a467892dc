"""How fast it is: beside the textbook's way to do the same, and beside what the machine can do."""
