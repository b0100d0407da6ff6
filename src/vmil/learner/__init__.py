"""What every algorithm shares, whoever trains it: its Lightning base class, its meters, its device."""
