"""The line: from a source of frames to sinks of verdicts."""
