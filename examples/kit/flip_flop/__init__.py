"""What `flip_flop.py` trains on, asks of the trained network, and draws."""
