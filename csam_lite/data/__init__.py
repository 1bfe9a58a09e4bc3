"""From files to arrays: scans, data sets, the grid of the network, phantoms, public sets."""
