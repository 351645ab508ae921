"""One module per process; plugs stages, engines and store together."""
