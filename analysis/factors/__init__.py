"""What is known of images: factors, probes that predict them, a reader of them."""
