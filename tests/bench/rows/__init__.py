"""One row a module: `measure(setting)` gives its figures."""
