"""Several networks under one budget; what CSAM costs."""
