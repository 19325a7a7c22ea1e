"""Training of the deblurring networks; run as `python -m train` from a checkout."""
