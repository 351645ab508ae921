"""The story, one module per arrow: explore watch carve label curate train publish swap."""
