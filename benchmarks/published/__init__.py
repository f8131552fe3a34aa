"""What is published under reports/: the experiments, and the page that sums up their records."""
