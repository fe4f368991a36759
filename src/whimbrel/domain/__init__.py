"""What Whimbrel knows: plain values and functions. No input or output, clock, log or async in here."""
