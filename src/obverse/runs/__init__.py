"""What a run leaves behind: its records, and the progress that an interrupted one goes on from."""
