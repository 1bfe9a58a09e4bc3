"""Arrays in, numbers out: overlap, calibration, statistics."""
