"""The vectorised evaluator: a frame goes through its stages in blocks of eight centres; it must equal `reference`."""
