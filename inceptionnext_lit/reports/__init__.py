"""Reports on models: what they cost, beside what the paper says they cost."""
