"""The Beam stages of the graph, one a module, each a verb."""
