"""Clips of moving digits, the errors of predicted frames, and pictures of them."""
