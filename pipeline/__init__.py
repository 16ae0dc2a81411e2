"""Puts it together: graph, configuration, command line. Imported by nothing."""
