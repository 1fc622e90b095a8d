"""What a station shows to PLCs and takes from them, whatever the protocol."""
