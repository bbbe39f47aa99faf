"""What models cost, beside what the paper says they cost."""
