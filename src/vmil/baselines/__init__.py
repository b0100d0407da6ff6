"""What VMIL is compared with: SQIL and DAC on top of DrQ, and behaviour cloning."""
