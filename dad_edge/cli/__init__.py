"""The command line: a command parses its options, calls one function and prints."""
