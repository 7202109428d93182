"""Deployment: what an operator writes about the federation, and its reading."""
