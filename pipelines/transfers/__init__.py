"""The transfer protocol: policies on arms that are not the simulation they were trained in."""
