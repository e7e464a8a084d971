"""What is tried: strategies, hypotheses, checks, deliberate faults, and property tests."""
