"""Experts that make demonstrations."""
