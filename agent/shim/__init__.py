"""The per-project parent process: captures, restarts, kills, outlives the agent."""
