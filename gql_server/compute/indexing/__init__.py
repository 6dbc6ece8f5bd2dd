"""Neuron indexes: what each neuron fires on, and what it does to the output."""
