"""The harness: real artifacts, a real agent in a real store, and what the kernel says of both."""
