"""Running a network: which file, on which device, in which precision, whole or in tiles."""
