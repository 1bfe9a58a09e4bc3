"""Look at a network at work on one volume."""
