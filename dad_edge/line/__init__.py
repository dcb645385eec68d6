"""The unattended line: many cameras, their engines, rules, sinks and state."""
