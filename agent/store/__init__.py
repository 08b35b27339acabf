"""The directory tree that holds everything the agent knows."""
