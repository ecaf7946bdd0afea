"""The places an image can be, and copy from any to any."""
