"""Labs: hand out the exercises of notebooks, and grade what comes back. `python -m csam_lite lab`."""
