"""What is behind the numbers of a run: maps over images, and whatever else a report shows."""
