"""What the kernel offers: files, locks, processes, control groups, signals."""
