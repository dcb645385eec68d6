"""The command: a command is a few lines: parse, call, print."""
