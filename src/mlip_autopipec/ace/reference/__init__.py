"""The reference evaluator: formulas as they read, in plain loops; kept as the truth for `lanes`."""
