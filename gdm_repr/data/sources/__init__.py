"""Where images lie: folders, zips, arrays, data sets with known factors, procedural scenes."""
