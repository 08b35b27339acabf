"""The HTTP side: a front thread that owns accept, admission at header time, Waitress, Bottle routes."""
