"""The networks and the method."""
