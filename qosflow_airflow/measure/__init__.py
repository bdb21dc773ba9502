"""Measure what storage tiers do for an application on this machine, as rows of a storage profile."""
