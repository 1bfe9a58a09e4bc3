"""What every part needs: errors, whole files, tables, figures, the device."""
