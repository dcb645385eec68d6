"""A line as a service of the machine: started with it, watched, restarted."""
