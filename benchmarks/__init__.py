"""How fast the suite is, measured side by side on the machine at hand: `make bench`."""
