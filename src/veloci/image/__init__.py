"""An image, wherever it is: its documents read together, converted, checked."""
