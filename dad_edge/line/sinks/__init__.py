"""Where a line hands its results: files, a database, messages, signals."""
