"""Numbers with their intervals: estimates, bootstrap, jackknife, curves."""
