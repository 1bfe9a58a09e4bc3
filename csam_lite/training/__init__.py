"""From a folder of scans to a trained network."""
