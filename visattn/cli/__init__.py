"""The command line: one file a command, torch imported only where it is used."""
