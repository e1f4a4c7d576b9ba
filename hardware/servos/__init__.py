"""Servos on a serial bus: ports, registers, packets, buses; one package a family."""
