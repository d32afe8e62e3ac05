"""What only a synthetic hospital has: held-out replay, daily predictions, simulated nights."""
