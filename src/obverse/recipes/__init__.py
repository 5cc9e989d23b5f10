"""Where names become objects: the settings and the composition of each command."""
