"""The command line of the same file: argparse verbs that call the agent and print its answers."""
